//! Compares the results of every instruction set with float64, and checks that they are bit-identical in every batch.

use crate::testing::{Numbers, Shuffled, by_build, every_available};
use crate::{AttentionInput, DistanceBias, Kernels, Offsets, Parallel, Serial};

/// Attention over one text in float64, straight from its definition.
fn exact(qkv: &[f32], heads: usize, size: usize, bias: Option<DistanceBias<'_>>) -> Vec<f64> {
    let tokens = qkv.len() / 3 / heads / size;
    let at = |token: usize, which: usize, head: usize, channel: usize| {
        f64::from(qkv[((token * 3 + which) * heads + head) * size + channel])
    };
    let mut output = Vec::new();
    for query in 0..tokens {
        for head in 0..heads {
            let score = |key: usize| {
                let dot: f64 = (0..size).map(|channel| at(query, 0, head, channel) * at(key, 1, head, channel)).sum();
                let bias = bias.map_or(0.0, |bias| {
                    f64::from(bias.table[head * (2 * bias.farthest + 1) + bias.farthest + key - query])
                });
                dot / (size as f64).sqrt() + bias
            };
            let weights: Vec<f64> = (0..tokens).map(|key| score(key).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for channel in 0..size {
                let mean = weights.iter().enumerate().map(|(key, weight)| weight * at(key, 2, head, channel));
                output.push(mean.sum::<f64>() / sum);
            }
        }
    }
    output
}

fn offsets(lengths: &[usize]) -> Offsets {
    let mut ends = vec![0];
    for &length in lengths {
        ends.push(ends.last().copied().unwrap_or(0) + length as i64);
    }
    Offsets::new(&ends, lengths.iter().sum()).expect("offsets")
}

fn attend(
    kernels: Kernels,
    parallel: &dyn Parallel,
    qkv: &[f32],
    (heads, bias): (usize, Option<DistanceBias<'_>>),
    lengths: &[usize],
) -> Vec<f32> {
    let mut output = vec![f32::NAN; qkv.len() / 3];
    kernels.attention(parallel, &AttentionInput { qkv, heads, bias }, &offsets(lengths), &mut output);
    output
}

#[test]
fn attention_matches_its_definition_below_at_and_above_the_tile_size() {
    let mut numbers = Numbers::new(1);
    let sizes = [1, 2, 5, 6, 7, 11, 15, 16, 17, 63, 64, 65, 129];
    for tokens in sizes.into_iter().take(by_build(sizes.len(), 9)) {
        for (heads, size) in [(12, 64), (12, 32), (2, 12), (1, 35), (3, 1)] {
            // Sometimes the scores are so large that most weights vanish. The rounding error of a score is proportional
            // to its summands, a query times a key; the error of the output is proportional to the error of a score
            // times a value.
            let spread = 1.0 + 4.0 * numbers.below(3) as f32;
            let qkv: Vec<f32> = numbers.floats(tokens * 3 * heads * size).iter().map(|x| x * spread).collect();
            let farthest = tokens - 1 + numbers.below(3);
            let table = numbers.floats(heads * (2 * farthest + 1));
            for bias in [None, Some(DistanceBias { table: &table, farthest })] {
                let expected = exact(&qkv, heads, size, bias);
                every_available(|kernels| {
                    let found = attend(kernels, &Serial, &qkv, (heads, bias), &[tokens]);
                    for (found, expected) in found.iter().zip(&expected) {
                        let error = (f64::from(*found) - expected).abs();
                        let set = kernels.instruction_set();
                        assert!(
                            error <= 1e-6 * f64::from(spread.powi(3)),
                            "{set}, {tokens} tokens, {heads} x {size}: {found} instead of {expected}"
                        );
                    }
                });
            }
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let qkv: Vec<f32> = (0..20 * 3 * 8).map(|i| if i / 8 % 3 == 2 { 1.5 } else { 300.0 - (i % 7) as f32 }).collect();
    every_available(|kernels| {
        let found = attend(kernels, &Serial, &qkv, (1, None), &[20]);
        assert!(found.iter().all(|value| (value - 1.5).abs() < 1e-5), "{found:?}");
    });
}

#[test]
fn a_text_has_the_same_bits_in_any_batch_for_any_number_of_threads() {
    let mut numbers = Numbers::new(2);
    let longest = by_build(150, 30);
    for round in 0..by_build(12, 4) {
        let (heads, size) = [(12, 64), (2, 12), (12, 32), (1, 35)][round % 4];
        let row = 3 * heads * size;
        let lengths: Vec<usize> = (0..1 + numbers.below(6)).map(|_| 1 + numbers.below(longest)).collect();
        let length = 1 + numbers.below(longest);
        let text = numbers.floats(length * row);
        let table = numbers.floats(heads * 401);
        let options = (heads, Some(DistanceBias { table: &table, farthest: 200 }));
        let around = numbers.floats(lengths.iter().sum::<usize>() * row);
        every_available(|kernels| {
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            let alone = bits(&attend(kernels, &Serial, &text, options, &[length]));
            for place in [0, lengths.len() / 2, lengths.len()] {
                let before: usize = lengths[..place].iter().sum();
                let qkv = [&around[..before * row], &text, &around[before * row..]].concat();
                let lengths = [&lengths[..place], &[length], &lengths[place..]].concat();
                for threads in [1, 3] {
                    let shuffled = Shuffled { threads, seed: round as u64 };
                    let found = attend(kernels, &shuffled, &qkv, options, &lengths);
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
    every_available(|kernels| {
        let alone = attend(kernels, &Serial, &qkv, (1, None), &[tokens]);
        for threads in [2, 3, 16] {
            let found = attend(kernels, &Shuffled { threads, seed: 1 }, &qkv, (1, None), &[tokens]);
            assert!(alone.iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits()), "{threads} threads");
        }
    });
}

#[test]
#[should_panic(expected = "too long for the bias")]
fn a_text_too_long_for_the_bias_is_rejected() {
    let bias = DistanceBias { table: &[0.0; 5], farthest: 2 };
    attend(Kernels::best(), &Serial, &[0.0; 4 * 3], (1, Some(bias)), &[4]);
}
