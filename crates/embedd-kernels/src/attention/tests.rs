//! Compares the results of every instruction set with float64, and checks that they are bit-identical in every batch.

use super::tiles;
use crate::testing::{Numbers, Shuffled, by_build, every_available};
use crate::{
    AttentionInput, DisentangledTables, Distances, Heads, InstructionSet, Kernels, Offsets, Parallel, Reach, Serial,
};

/// Attention over one text in float64, straight from its definition.
fn exact(input: &AttentionInput<'_>) -> Vec<f64> {
    let Heads { query: heads, key: key_heads, size } = input.heads;
    let tokens = input.qkv.len() / input.heads.row();
    let at = |token: usize, part: usize, channel: usize| {
        f64::from(input.qkv[token * input.heads.row() + part * size + channel])
    };
    let dot = |a: &dyn Fn(usize) -> f64, b: &dyn Fn(usize) -> f64| (0..size).map(|c| a(c) * b(c)).sum::<f64>();
    let mut output = Vec::new();
    for query in 0..tokens {
        for head in 0..heads {
            let key_head = head * key_heads / heads;
            let of_query = |channel| at(query, head, channel);
            let score = |key: usize| {
                let of_key = |channel| at(key, heads + key_head, channel);
                let mut score = dot(&of_query, &of_key);
                let mut bias = 0.0;
                match input.distances {
                    Distances::None => {}
                    Distances::Bias { table, farthest } => {
                        bias = f64::from(table[head * (2 * farthest + 1) + farthest + key - query]);
                    }
                    Distances::Disentangled(DisentangledTables { keys, queries, rows }) => {
                        let row = rows[rows.len() / 2 + key - query] as usize;
                        let of = |table: &[f32], channel| f64::from(table[(row * heads + head) * size + channel]);
                        if !keys.is_empty() {
                            score += dot(&of_query, &|channel| of(keys, channel));
                        }
                        if !queries.is_empty() {
                            score += dot(&of_key, &|channel| of(queries, channel));
                        }
                    }
                }
                score / f64::from(input.squared_divisor).sqrt() + bias
            };
            let visible = |key: usize| {
                key + input.reach.back.unwrap_or(tokens) >= query && key <= query + input.reach.ahead.unwrap_or(tokens)
            };
            let weight = |key: usize| if visible(key) { score(key).exp() } else { 0.0 };
            let weights: Vec<f64> = (0..tokens).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            for channel in 0..size {
                let value = |key| at(key, heads + key_heads + key_head, channel);
                output.push(weights.iter().enumerate().map(|(key, weight)| weight * value(key)).sum::<f64>() / sum);
            }
        }
    }
    output
}

/// Attention with as many key heads as query heads.
fn plain(qkv: &[f32], heads: usize, size: usize) -> AttentionInput<'_> {
    AttentionInput {
        qkv,
        heads: Heads { query: heads, key: heads, size },
        squared_divisor: size as f32,
        reach: Reach::WHOLE_TEXT,
        distances: Distances::None,
    }
}

fn offsets(lengths: &[usize]) -> Offsets {
    let mut ends = vec![0];
    for &length in lengths {
        ends.push(ends.last().copied().unwrap_or(0) + length as i64);
    }
    Offsets::new(&ends, lengths.iter().sum()).expect("offsets")
}

fn attend(kernels: Kernels, parallel: &dyn Parallel, input: &AttentionInput<'_>, lengths: &[usize]) -> Vec<f32> {
    let mut output = vec![f32::NAN; lengths.iter().sum::<usize>() * input.heads.output()];
    kernels.attention(parallel, input, &offsets(lengths), &mut output);
    output
}

/// `spread` is the magnitude of the numbers in `qkv`. The rounding error of a score is proportional to its summands, a
/// query times a key; the error of the output is proportional to the error of a score times a value.
fn assert_exact(input: &AttentionInput<'_>, spread: f32, what: &str) {
    let tokens = input.qkv.len() / input.heads.row();
    let expected = exact(input);
    every_available(|kernels| {
        let found = attend(kernels, &Serial, input, &[tokens]);
        for (found, expected) in found.iter().zip(&expected) {
            let error = (f64::from(*found) - expected).abs();
            let set = kernels.instruction_set();
            let uses_tiles = kernels.tiles().is_some() && tiles::is_worth_using(tokens, &input.distances);
            // In tiles, two factors and the part of their product that is left out each have an error of up to 2^-18.
            let allowed = if uses_tiles { 1.2e-5 } else { 1e-6 } * f64::from(spread.powi(3));
            assert!(error <= allowed, "{set}, {tokens} tokens, {what}: {found} instead of {expected}");
        }
    });
}

#[test]
fn attention_matches_its_definition_below_at_and_above_the_tile_size() {
    let mut numbers = Numbers::new(1);
    let sizes = [1, 2, 5, 6, 7, 11, 15, 16, 17, 63, 64, 65, 129];
    for tokens in sizes.into_iter().take(by_build(sizes.len(), 9)) {
        for (heads, size) in [(12, 64), (12, 32), (2, 12), (1, 35), (3, 1)] {
            // Sometimes the scores are so large that most weights vanish.
            let spread = 1.0 + 4.0 * numbers.below(3) as f32;
            let qkv: Vec<f32> = numbers.floats(tokens * 3 * heads * size).iter().map(|x| x * spread).collect();
            let farthest = tokens - 1 + numbers.below(3);
            let table = numbers.floats(heads * (2 * farthest + 1));
            let input = plain(&qkv, heads, size);
            assert_exact(&input, spread, &format!("{heads} x {size}"));
            let distances = Distances::Bias { table: &table, farthest };
            assert_exact(&AttentionInput { distances, ..input }, spread, &format!("{heads} x {size}, bias"));
        }
    }
}

#[test]
fn query_heads_share_keys_and_queries_attend_only_within_reach() {
    let mut numbers = Numbers::new(4);
    for tokens in [1, 5, 13, 40, 70] {
        for heads in [Heads { query: 4, key: 2, size: 16 }, Heads { query: 3, key: 1, size: 12 }] {
            let qkv = numbers.floats(tokens * heads.row());
            let window = Reach { back: Some(3), ahead: Some(3) };
            let causal = Reach { back: None, ahead: Some(0) };
            for reach in [Reach::WHOLE_TEXT, window, causal, Reach { back: Some(2), ahead: Some(0) }] {
                let input =
                    AttentionInput { qkv: &qkv, heads, reach, squared_divisor: 24.0, distances: Distances::None };
                assert_exact(&input, 1.0, &format!("{heads:?}, {reach:?}"));
            }
        }
    }
}

/// The rows for distances up to `farthest`, three of which share each row far away.
fn rows(farthest: usize) -> Vec<u32> {
    (0..=2 * farthest).map(|at| (at.abs_diff(farthest) / 3 * 2 + usize::from(at > farthest)) as u32).collect()
}

#[test]
fn embeddings_of_distances_are_multiplied_with_queries_and_keys() {
    let mut numbers = Numbers::new(5);
    for tokens in [1, 2, 7, 33, 50] {
        let (heads, size) = (2, 12);
        let qkv = numbers.floats(tokens * 3 * heads * size);
        let rows = rows(49);
        let count = rows.iter().max().map_or(0, |&row| row as usize + 1);
        let keys = numbers.floats(count * heads * size);
        let queries = numbers.floats(count * heads * size);
        for (keys, queries) in [(&keys[..], &queries[..]), (&keys, &[]), (&[], &queries)] {
            let distances = Distances::Disentangled(DisentangledTables { keys, queries, rows: &rows });
            let input = AttentionInput { squared_divisor: 36.0, distances, ..plain(&qkv, heads, size) };
            assert_exact(&input, 1.5, &format!("{} and {} numbers", keys.len(), queries.len()));
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let qkv: Vec<f32> = (0..20 * 3 * 8).map(|i| if i / 8 % 3 == 2 { 1.5 } else { 300.0 - (i % 7) as f32 }).collect();
    every_available(|kernels| {
        let found = attend(kernels, &Serial, &plain(&qkv, 1, 8), &[20]);
        assert!(found.iter().all(|value| (value - 1.5).abs() < 1e-5), "{found:?}");
    });
}

#[test]
fn a_text_has_the_same_bits_in_any_batch_for_any_number_of_threads() {
    let mut numbers = Numbers::new(2);
    let longest = by_build(150, 30);
    let rows = rows(200);
    for round in 0..by_build(15, 5) {
        let (heads, size) = [(12, 64), (2, 12), (12, 32), (1, 35), (4, 16)][round % 5];
        let table = numbers.floats(heads * 401);
        let embeddings = numbers.floats(200 * heads * size);
        let disentangled = DisentangledTables { keys: &embeddings, queries: &embeddings, rows: &rows };
        let (distances, reach) = match round % 3 {
            0 => (Distances::Bias { table: &table, farthest: 200 }, Reach::WHOLE_TEXT),
            1 => (Distances::Disentangled(disentangled), Reach::WHOLE_TEXT),
            _ => (Distances::None, Reach { back: Some(8), ahead: Some(8) }),
        };
        let row = 3 * heads * size;
        let lengths: Vec<usize> = (0..1 + numbers.below(6)).map(|_| 1 + numbers.below(longest)).collect();
        let length = 1 + numbers.below(longest);
        let text = numbers.floats(length * row);
        let around = numbers.floats(lengths.iter().sum::<usize>() * row);
        every_available(|kernels| {
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            let input = AttentionInput { distances, reach, ..plain(&text, heads, size) };
            let alone = bits(&attend(kernels, &Serial, &input, &[length]));
            for place in [0, lengths.len() / 2, lengths.len()] {
                let before: usize = lengths[..place].iter().sum();
                let qkv = [&around[..before * row], &text, &around[before * row..]].concat();
                let lengths = [&lengths[..place], &[length], &lengths[place..]].concat();
                for threads in [1, 3] {
                    let shuffled = Shuffled { threads, seed: round as u64 };
                    let found = attend(kernels, &shuffled, &AttentionInput { qkv: &qkv, ..input }, &lengths);
                    let found = &found[before * heads * size..][..length * heads * size];
                    assert!(bits(found) == alone, "{}, place {place}, {threads} threads", kernels.instruction_set());
                }
            }
        });
    }
}

#[test]
fn a_long_text_has_the_same_bits_for_any_number_of_threads() {
    let tokens = by_build(513, 161);
    let qkv = Numbers::new(3).floats(tokens * 3 * 64);
    let embeddings = Numbers::new(4).floats(2 * tokens * 64);
    let rows = rows(tokens);
    let tables = DisentangledTables { keys: &embeddings, queries: &embeddings, rows: &rows };
    for distances in [Distances::None, Distances::Disentangled(tables)] {
        let input = AttentionInput { distances, ..plain(&qkv, 1, 64) };
        every_available(|kernels| {
            let alone = attend(kernels, &Serial, &input, &[tokens]);
            for threads in [2, 3, 16] {
                let found = attend(kernels, &Shuffled { threads, seed: 1 }, &input, &[tokens]);
                assert!(alone.iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits()), "{threads} threads");
            }
        });
    }
}

#[test]
fn tile_registers_have_the_bits_of_their_emulation() {
    let sets = [InstructionSet::AmxBf16, InstructionSet::EmulatedAmxBf16];
    // Sets that this CPU does not support are reported by other tests.
    let [Some(one), Some(other)] = sets.map(Kernels::of) else { return };
    let mut numbers = Numbers::new(6);
    for (tokens, heads, size) in [(64, 2, 64), (101, 1, 35), (130, 1, 80)] {
        let qkv = numbers.floats(tokens * 3 * heads * size);
        for reach in [Reach::WHOLE_TEXT, Reach { back: Some(20), ahead: Some(20) }] {
            let input = AttentionInput { reach, ..plain(&qkv, heads, size) };
            let [found, expected] = [one, other].map(|kernels| attend(kernels, &Serial, &input, &[tokens]));
            assert!(found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{tokens} tokens, {reach:?}");
        }
    }
}

#[test]
#[should_panic(expected = "too long for the bias")]
fn a_text_too_long_for_the_bias_is_rejected() {
    let distances = Distances::Bias { table: &[0.0; 5], farthest: 2 };
    attend(Kernels::best(), &Serial, &AttentionInput { distances, ..plain(&[0.0; 4 * 3], 1, 1) }, &[4]);
}
