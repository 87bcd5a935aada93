//! Against float64, for every instruction set; and that a text's bits are its own.

use crate::testing::{Numbers, Shuffled, by_build, every_available};
use crate::{AttentionInput, DistanceBias, Kernels, Offsets, Parallel, Serial};

/// The definition, in float64, for one text.
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
fn attention_is_its_definition_below_at_and_above_the_tiles() {
    let mut numbers = Numbers::new(1);
    let sizes = [1, 2, 5, 6, 7, 11, 15, 16, 17, 63, 64, 65, 129];
    for tokens in sizes.into_iter().take(by_build(sizes.len(), 9)) {
        for (heads, size) in [(12, 64), (12, 32), (2, 12), (1, 35), (3, 1)] {
            // Some scores large, so that most weights vanish. Rounding moves a score by a part of its summands,
            // query times key, and the output by that times a value.
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
                            "{set}, {tokens} tokens, {heads} x {size}: {found} for {expected}"
                        );
                    }
                });
            }
        }
    }
}

#[test]
fn scores_that_would_overflow_an_exponential_do_not() {
    let qkv: Vec<f32> = (0..20 * 3 * 8).map(|i| if i / 8 % 3 == 2 { 1.5 } else { 300.0 - (i % 7) as f32 }).collect();
    every_available(|kernels| {
        let found = attend(kernels, &Serial, &qkv, (1, None), &[20]);
        assert!(found.iter().all(|value| (value - 1.5).abs() < 1e-5), "{found:?}");
    });
}

#[test]
fn a_text_has_the_same_bits_alone_and_among_others_for_any_number_of_threads() {
    let mut numbers = Numbers::new(2);
    let longest = by_build(150, 30);
    for round in 0..by_build(12, 4) {
        let (heads, size) = [(12, 64), (2, 12), (12, 32), (1, 35)][round % 4];
        let row = 3 * heads * size;
        let lengths: Vec<usize> = (0..1 + numbers.below(6)).map(|_| 1 + numbers.below(longest)).collect();
        let mine = 1 + numbers.below(longest);
        let text = numbers.floats(mine * row);
        let table = numbers.floats(heads * 401);
        let how = (heads, Some(DistanceBias { table: &table, farthest: 200 }));
        let around = numbers.floats(lengths.iter().sum::<usize>() * row);
        every_available(|kernels| {
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            let alone = bits(&attend(kernels, &Serial, &text, how, &[mine]));
            for place in [0, lengths.len() / 2, lengths.len()] {
                let before: usize = lengths[..place].iter().sum();
                let qkv = [&around[..before * row], &text, &around[before * row..]].concat();
                let lengths = [&lengths[..place], &[mine], &lengths[place..]].concat();
                for threads in [1, 3] {
                    let shuffled = Shuffled { threads, seed: round as u64 };
                    let found = attend(kernels, &shuffled, &qkv, how, &lengths);
                    let found = &found[before * heads * size..][..mine * heads * size];
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
#[should_panic(expected = "longer than the bias reaches")]
fn a_text_longer_than_the_bias_reaches_is_refused() {
    let bias = DistanceBias { table: &[0.0; 5], farthest: 2 };
    attend(Kernels::best(), &Serial, &[0.0; 4 * 3], (1, Some(bias)), &[4]);
}
