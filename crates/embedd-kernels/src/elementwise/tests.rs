//! Compares the results of every instruction set with float64, and checks that they are bit-identical in every batch.

use super::{EmbeddingTables, Norm, NormKind, PoolingRule, PositionRule, TokenOutOfRange};
use crate::testing::{Numbers, Shuffled, every_available};
use crate::{Activation, Offsets, Serial};

const WORD_GROUP: usize = 20;
const CHANNELS: [usize; 9] = [1, 3, 15, 16, 17, 35, 64, 384, 768];

fn exact_norm(row: &[f64], norm: Norm<'_>) -> Vec<f64> {
    let count = row.len() as f64;
    let mean = if norm.kind == NormKind::Layer { row.iter().sum::<f64>() / count } else { 0.0 };
    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    let factor = 1.0 / (variance + f64::from(norm.epsilon)).sqrt();
    let parameters = norm.weight.iter().zip(norm.bias);
    row.iter().zip(parameters).map(|(x, (&w, &b))| (x - mean) * factor * f64::from(w) + f64::from(b)).collect()
}

fn assert_close(found: &[f32], expected: &[f64], allowed: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(error <= allowed * (1.0 + expected.abs()), "{what}, {index}: {found} instead of {expected}");
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn the_residual_is_added_and_the_sum_is_normalized() {
    let mut numbers = Numbers::new(1);
    for channels in CHANNELS {
        let weight = numbers.floats(channels);
        let bias = numbers.floats(channels);
        let norm = Norm { kind: NormKind::Layer, weight: &weight, bias: &bias, epsilon: 1e-5 };
        let rows = 1 + numbers.below(5);
        // Not centered, like the hidden states of a real model.
        let values: Vec<f32> = numbers.floats(rows * channels).iter().map(|x| x * 3.0 + 2.0).collect();
        let residual = numbers.floats(rows * channels);
        let sums: Vec<f64> = values.iter().zip(&residual).map(|(&a, &b)| f64::from(a + b)).collect();
        let expected: Vec<f64> = sums.chunks(channels).flat_map(|row| exact_norm(row, norm)).collect();
        every_available(|kernels| {
            let mut found = values.clone();
            kernels.residual_norm(&Serial, &residual, norm, &mut found);
            let what = format!("{}, {channels} channels", kernels.instruction_set());
            assert_close(&found, &expected, if channels == 1 { 1e-3 } else { 3e-6 }, &what);
        });
    }
}

#[test]
fn a_normalized_row_has_the_same_bits_in_any_batch_for_any_number_of_threads() {
    let mut numbers = Numbers::new(2);
    for (rows, channels) in [(200, 768), (300, 384), (2000, 35)] {
        let weight = numbers.floats(channels);
        let bias = numbers.floats(channels);
        let norm = Norm { kind: NormKind::Layer, weight: &weight, bias: &bias, epsilon: 1e-12 };
        let values = numbers.floats(rows * channels);
        let residual = numbers.floats(rows * channels);
        every_available(|kernels| {
            let mut alone = values.clone();
            for (row, residual) in alone.chunks_mut(channels).zip(residual.chunks(channels)) {
                kernels.residual_norm(&Serial, residual, norm, row);
            }
            for threads in [1, 2, 3] {
                let mut found = values.clone();
                kernels.residual_norm(&Shuffled { threads, seed: 1 }, &residual, norm, &mut found);
                assert!(bits(&found) == bits(&alone), "{}, {threads} threads", kernels.instruction_set());
            }
        });
    }
}

#[test]
fn rows_are_normalized_with_and_without_their_mean() {
    let mut numbers = Numbers::new(6);
    for channels in CHANNELS {
        let weight = numbers.floats(channels);
        let bias = numbers.floats(channels);
        let values: Vec<f32> = numbers.floats(3 * channels).iter().map(|x| x * 3.0 + 2.0).collect();
        let exact: Vec<f64> = values.iter().copied().map(f64::from).collect();
        for kind in [NormKind::Layer, NormKind::Rms] {
            let norm = Norm { kind, weight: &weight, bias: &bias, epsilon: 1e-5 };
            let expected: Vec<f64> = exact.chunks(channels).flat_map(|row| exact_norm(row, norm)).collect();
            every_available(|kernels| {
                let mut found = vec![f32::NAN; values.len()];
                kernels.norm(&Serial, &values, norm, &mut found);
                let what = format!("{}, {channels} channels, {kind:?}", kernels.instruction_set());
                assert_close(&found, &expected, if channels == 1 { 1e-3 } else { 3e-6 }, &what);
            });
        }
    }
}

#[test]
fn gates_multiply_the_second_half_of_a_row_by_its_activated_first_half() {
    let mut numbers = Numbers::new(7);
    for channels in CHANNELS {
        let input = numbers.floats(40 * 2 * channels);
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let expected: Vec<f64> = input
            .chunks(2 * channels)
            .flat_map(|row| (0..channels).map(|channel| silu(row[channel].into()) * f64::from(row[channels + channel])))
            .collect();
        every_available(|kernels| {
            let mut alone = vec![f32::NAN; 40 * channels];
            kernels.gate(&Serial, Activation::Silu, &input, channels, &mut alone);
            assert_close(&alone, &expected, 1e-6, &format!("{channels} channels"));
            let mut shared = vec![f32::NAN; 40 * channels];
            kernels.gate(&Shuffled { threads: 3, seed: 1 }, Activation::Silu, &input, channels, &mut shared);
            assert_eq!(bits(&shared), bits(&alone));
        });
    }
}

#[test]
fn rows_are_added() {
    let mut numbers = Numbers::new(8);
    let values = numbers.floats(50_001);
    let input = numbers.floats(50_001);
    let expected: Vec<f32> = values.iter().zip(&input).map(|(a, b)| a + b).collect();
    every_available(|kernels| {
        let mut found = values.clone();
        kernels.add(&Shuffled { threads: 3, seed: 1 }, &input, &mut found);
        assert_eq!(bits(&found), bits(&expected));
    });
}

/// Tables of 50 words and 40 positions.
struct Tables {
    words: Vec<i8>,
    word_scales: Vec<f32>,
    positions: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Tables {
    fn new(channels: usize) -> Self {
        let mut numbers = Numbers::new(channels as u64);
        Self {
            words: (0..50 * channels).map(|_| numbers.next() as i8).collect(),
            word_scales: numbers.floats(50 * channels.div_ceil(WORD_GROUP)),
            positions: numbers.floats(40 * channels),
            weight: numbers.floats(channels),
            bias: numbers.floats(channels),
        }
    }

    fn with(&self, position_rule: PositionRule) -> EmbeddingTables<'_> {
        EmbeddingTables {
            words: &self.words,
            word_scales: &self.word_scales,
            word_group: WORD_GROUP,
            positions: &self.positions,
            position_rule,
            channels: self.weight.len(),
            norm: Some(Norm { kind: NormKind::Layer, weight: &self.weight, bias: &self.bias, epsilon: 1e-5 }),
        }
    }
}

fn exact_embedding(tables: &EmbeddingTables<'_>, word: usize, position: usize) -> Vec<f64> {
    let channels = tables.channels;
    let sum = |channel: usize| {
        f64::from(tables.words[word * channels + channel])
            * f64::from(tables.word_scales[word * channels.div_ceil(WORD_GROUP) + channel / WORD_GROUP])
            + f64::from(tables.positions[position * channels + channel])
    };
    let sums: Vec<f64> = (0..channels).map(sum).collect();
    tables.norm.map_or(sums.clone(), |norm| exact_norm(&sums, norm))
}

#[test]
fn tokens_are_embedded_with_the_position_that_the_rule_assigns() {
    let ids = [4, 1, 1, 9, 49, 0, 7, 1];
    let offsets = Offsets::new(&[0, 5, 8], 8).expect("offsets");
    let padding = PositionRule::SkippingPadding { padding: 1 };
    let cases = [
        (PositionRule::Sequential, [0, 1, 2, 3, 4, 0, 1, 2]),
        (padding, [2, 1, 1, 3, 4, 2, 3, 1]),
        (PositionRule::Constant, [0; 8]),
    ];
    for channels in [3, 16, 35, 768] {
        let tables = Tables::new(channels);
        for ((rule, positions), normalized) in cases.into_iter().flat_map(|case| [(case, true), (case, false)]) {
            let mut tables = tables.with(rule);
            tables.norm = tables.norm.filter(|_| normalized);
            let rows = ids.iter().zip(positions).map(|(&id, position)| exact_embedding(&tables, id as usize, position));
            let expected: Vec<f64> = rows.flatten().collect();
            every_available(|kernels| {
                let mut found = vec![f32::NAN; ids.len() * channels];
                kernels.embed(&Serial, &ids, &offsets, &tables, &mut found).expect("known tokens");
                let what = format!("{}, {channels} channels, {rule:?}", kernels.instruction_set());
                assert_close(&found, &expected, 1e-5, &what);
            });
        }
    }
}

#[test]
fn an_embedded_text_has_the_same_bits_in_any_batch_for_any_number_of_threads() {
    let channels = 768;
    let tables = Tables::new(channels);
    let tables = tables.with(PositionRule::SkippingPadding { padding: 1 });
    let mut numbers = Numbers::new(5);
    let ids: Vec<i64> = (0..400).map(|_| numbers.below(50) as i64).collect();
    let ends: Vec<i64> = (0..=20).map(|text| text * 20).collect();
    let offsets = Offsets::new(&ends, 400).expect("offsets");
    let one = Offsets::new(&[0, 20], 20).expect("offsets");
    every_available(|kernels| {
        let mut alone = vec![0.0; 400 * channels];
        for (ids, output) in ids.chunks(20).zip(alone.chunks_mut(20 * channels)) {
            kernels.embed(&Serial, ids, &one, &tables, output).expect("known tokens");
        }
        for threads in [1, 3] {
            let mut found = vec![0.0; 400 * channels];
            let shuffled = Shuffled { threads, seed: 7 };
            kernels.embed(&shuffled, &ids, &offsets, &tables, &mut found).expect("known tokens");
            assert!(bits(&found) == bits(&alone), "{}, {threads} threads", kernels.instruction_set());
        }
    });
}

#[test]
fn a_token_outside_the_tables_is_rejected_before_anything_is_written() {
    // Two groups per row, so there are more scales than words.
    let tables = Tables::new(35);
    let assert_rejected = |ids: &[i64], rule, token, position| {
        every_available(|kernels| {
            let offsets = Offsets::new(&[0, 1, ids.len() as i64], ids.len()).expect("offsets");
            let mut output = vec![7.0; ids.len() * 35];
            let found = kernels.embed(&Serial, ids, &offsets, &tables.with(rule), &mut output);
            assert_eq!(found, Err(TokenOutOfRange { token, position }));
            assert!(output.iter().all(|&value| value == 7.0));
        });
    };
    assert_rejected(&[3, 4, 50], PositionRule::Sequential, 50, 1);
    assert_rejected(&[3, -1, 4], PositionRule::Sequential, -1, 0);
    assert_rejected(&[2; 42], PositionRule::Sequential, 2, 40);
    assert_rejected(&[2; 42], PositionRule::SkippingPadding { padding: 1 }, 2, 38);
}

/// The texts, by their offsets, pooled by a rule in float64, without the first `excluded` tokens where there are more.
fn pooled(states: &[f32], channels: usize, offsets: &Offsets, excluded: usize, rule: PoolingRule) -> Vec<f64> {
    let value = |row: usize, channel: usize| f64::from(states[row * channels + channel]);
    let pool = |text: std::ops::Range<usize>, channel: usize| {
        let excluded = if excluded < text.len() { excluded } else { 0 };
        let rows = text.start + excluded..text.end;
        let values = || rows.clone().map(|row| value(row, channel));
        let count = rows.len() as f64;
        match rule {
            PoolingRule::Mean => values().sum::<f64>() / count,
            PoolingRule::MeanSqrtLen => values().sum::<f64>() / count.sqrt(),
            PoolingRule::WeightedMean => {
                let weights = || (excluded + 1..=text.len()).map(|number| number as f64);
                weights().zip(values()).map(|(weight, value)| weight * value).sum::<f64>() / weights().sum::<f64>()
            }
            PoolingRule::Max => values().fold(f64::NEG_INFINITY, f64::max),
            PoolingRule::First => value(text.start, channel),
            PoolingRule::Last => value(text.end - 1, channel),
        }
    };
    offsets
        .texts()
        .flat_map(|text| (0..channels).map(move |channel| (text.clone(), channel)))
        .map(|(text, channel)| pool(text, channel))
        .collect()
}

#[test]
fn every_pooling_rule_gives_its_vector_of_each_text_alone_and_together() {
    const RULES: [PoolingRule; 6] = [
        PoolingRule::Mean,
        PoolingRule::MeanSqrtLen,
        PoolingRule::WeightedMean,
        PoolingRule::Max,
        PoolingRule::First,
        PoolingRule::Last,
    ];
    let mut numbers = Numbers::new(4);
    let lengths = [1, 2, 3, 4, 5, 11, 130];
    let ends: Vec<i64> = (0..=lengths.len()).map(|text| lengths[..text].iter().sum::<i64>()).collect();
    let tokens = ends[lengths.len()] as usize;
    let offsets = Offsets::new(&ends, tokens).expect("offsets");
    for (channels, excluded) in CHANNELS.into_iter().flat_map(|channels| [(channels, 0), (channels, 3)]) {
        let states = numbers.floats(tokens * channels);
        every_available(|kernels| {
            let mut all = vec![f32::NAN; lengths.len() * RULES.len() * channels];
            kernels.pool(&states, &offsets, &vec![excluded; lengths.len()], &RULES, &mut all);
            for (index, rule) in RULES.into_iter().enumerate() {
                let found: Vec<f32> = all
                    .chunks(RULES.len() * channels)
                    .flat_map(|text| &text[index * channels..][..channels])
                    .copied()
                    .collect();
                assert_close(&found, &pooled(&states, channels, &offsets, excluded, rule), 3e-6, &format!("{rule:?}"));
                for (text, pooled) in offsets.texts().zip(found.chunks(channels)) {
                    let one = Offsets::new(&[0, text.len() as i64], text.len()).expect("offsets");
                    let rows = &states[text.start * channels..text.end * channels];
                    let mut alone = vec![f32::NAN; channels];
                    kernels.pool(rows, &one, &[excluded], &[rule], &mut alone);
                    assert_eq!(bits(&alone), bits(pooled), "{rule:?}: a text must not depend on its neighbors");
                }
            }
        });
    }
}
