//! Embedding lookup and normalization of rows, and the division of rows among threads.

use super::{EmbeddingTables, Norm, NormKind};
use crate::Parallel;
use crate::parallel::share_out;
use crate::simd::{Simd, Vectorized};

/// The minimum number of floats per task: about 5 microseconds of work, enough to justify waking a thread.
const MIN_FLOATS: usize = 1 << 14;

/// The number of independent partial sums. With several, an addition need not wait for the previous one.
const CHAINS: usize = 4;

/// Divides `rows` into parts and calls `work` with the index of each part's first row and the part. Small inputs stay
/// on the calling thread.
pub(crate) fn share(
    parallel: &dyn Parallel,
    rows: &mut [f32],
    channels: usize,
    work: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    let threads = parallel.threads();
    if threads == 1 || rows.len() < 2 * MIN_FLOATS {
        return work(0, rows);
    }
    let each = (rows.len() / channels).div_ceil(2 * threads).max(MIN_FLOATS.div_ceil(channels));
    share_out(parallel, rows.chunks_mut(each * channels), &|part, rows| work(part * each, rows));
}

/// A token's rows in the embedding tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) word: usize,
    pub(super) position: usize,
}

/// Looks up and normalizes one row per lookup. The lookups must be within the tables.
pub(super) struct EmbedRows<'a> {
    pub(super) tables: &'a EmbeddingTables<'a>,
    pub(super) lookups: &'a [Lookup],
    pub(super) rows: &'a mut [f32],
}

impl Vectorized for EmbedRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let tables = self.tables;
        let channels = tables.channels;
        let groups = channels.div_ceil(tables.word_group);
        for (row, lookup) in self.rows.chunks_exact_mut(channels).zip(self.lookups) {
            let words = &tables.words[lookup.word * channels..][..channels];
            let positions = &tables.positions[lookup.position * channels..][..channels];
            let scales = &tables.word_scales[lookup.word * groups..][..groups];
            for (group, &scale) in scales.iter().enumerate() {
                let channels = group * tables.word_group..((group + 1) * tables.word_group).min(channels);
                let words = &words[channels.clone()];
                let positions = &positions[channels.clone()];
                scale_and_add(s, words, scale, positions, &mut row[channels]);
            }
            if let Some(norm) = tables.norm {
                norm_row(s, row, norm);
            }
        }
    }
}

#[inline(always)]
fn scale_and_add<S: Simd>(s: S, words: &[i8], scale: f32, positions: &[f32], to: &mut [f32]) {
    let scale = s.splat(scale);
    let sources = words.chunks(S::LANES).zip(positions.chunks(S::LANES));
    for (to, (words, positions)) in to.chunks_mut(S::LANES).zip(sources) {
        let word = if words.len() < S::LANES { s.load_bytes_first(words) } else { s.load_bytes(words) };
        s.store_part(to, s.mul_add(word, scale, s.load_part(positions)));
    }
}

/// Adds `residual` to `rows` unless it is empty, and normalizes them.
pub(super) struct NormRows<'a> {
    pub(super) residual: &'a [f32],
    pub(super) norm: Norm<'a>,
    pub(super) rows: &'a mut [f32],
}

impl Vectorized for NormRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let channels = self.norm.weight.len();
        if self.residual.is_empty() {
            for row in self.rows.chunks_exact_mut(channels) {
                norm_row(s, row, self.norm);
            }
        }
        for (row, residual) in self.rows.chunks_exact_mut(channels).zip(self.residual.chunks_exact(channels)) {
            let sum = add(s, row, residual);
            normalize(s, row, sum, self.norm);
        }
    }
}

/// Normalizes a row.
#[inline(always)]
pub(crate) fn norm_row<S: Simd>(s: S, row: &mut [f32], norm: Norm<'_>) {
    let sum = sum(s, row);
    normalize(s, row, sum, norm);
}

#[inline(always)]
fn join<S: Simd>(s: S, sums: [S::F32; CHAINS]) -> f32 {
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

#[inline(always)]
fn sum<S: Simd>(s: S, row: &[f32]) -> f32 {
    let mut sums = [s.splat(0.0); CHAINS];
    let (whole, rest) = row.split_at(row.len() / (CHAINS * S::LANES) * CHAINS * S::LANES);
    for values in whole.chunks_exact(CHAINS * S::LANES) {
        for (values, sum) in values.chunks_exact(S::LANES).zip(&mut sums) {
            *sum = s.add(*sum, s.load(values));
        }
    }
    for (values, sum) in rest.chunks(S::LANES).zip(&mut sums) {
        *sum = s.add(*sum, s.load_part(values));
    }
    join(s, sums)
}

/// Adds `residual` to `row` and returns the sum of the resulting row.
#[inline(always)]
fn add<S: Simd>(s: S, row: &mut [f32], residual: &[f32]) -> f32 {
    let mut sums = [s.splat(0.0); CHAINS];
    let middle = row.len() / (CHAINS * S::LANES) * CHAINS * S::LANES;
    let (whole, rest) = row.split_at_mut(middle);
    let (residual, last) = residual.split_at(middle);
    let chunks = whole.chunks_exact_mut(CHAINS * S::LANES).zip(residual.chunks_exact(CHAINS * S::LANES));
    for (values, residual) in chunks {
        let parts = values.chunks_exact_mut(S::LANES).zip(residual.chunks_exact(S::LANES));
        for ((values, residual), sum) in parts.zip(&mut sums) {
            add_part(s, values, residual, sum);
        }
    }
    for ((values, residual), sum) in rest.chunks_mut(S::LANES).zip(last.chunks(S::LANES)).zip(&mut sums) {
        add_part(s, values, residual, sum);
    }
    join(s, sums)
}

#[inline(always)]
fn add_part<S: Simd>(s: S, values: &mut [f32], residual: &[f32], sum: &mut S::F32) {
    let added = s.add(s.load_part(values), s.load_part(residual));
    s.store_part(values, added);
    *sum = s.add(*sum, added);
}

/// The sum of the squared deviations from `mean`.
#[inline(always)]
fn squared_deviations<S: Simd>(s: S, row: &[f32], mean: S::F32) -> f32 {
    let zero = s.splat(0.0);
    let mut sums = [zero; CHAINS];
    let (whole, rest) = row.split_at(row.len() / (CHAINS * S::LANES) * CHAINS * S::LANES);
    for values in whole.chunks_exact(CHAINS * S::LANES) {
        for (values, sum) in values.chunks_exact(S::LANES).zip(&mut sums) {
            let distance = s.sub(s.load(values), mean);
            *sum = s.mul_add(distance, distance, *sum);
        }
    }
    for (values, sum) in rest.chunks(S::LANES).zip(&mut sums) {
        let distance = s.first_or(s.sub(s.load_part(values), mean), values.len(), zero);
        *sum = s.mul_add(distance, distance, *sum);
    }
    join(s, sums)
}

/// Computes `(x - mean) / sqrt(variance + epsilon) * weight + bias` for a row whose values add up to `sum`. For RMSNorm,
/// the mean is taken to be 0.
#[inline(always)]
fn normalize<S: Simd>(s: S, row: &mut [f32], sum: f32, norm: Norm<'_>) {
    let count = row.len() as f32;
    let mean = match norm.kind {
        NormKind::Layer => s.splat(sum / count),
        NormKind::Rms => s.splat(0.0),
    };
    let variance = squared_deviations(s, row, mean) / count;
    let factor = s.splat(1.0 / (variance + norm.epsilon).sqrt());
    let middle = row.len() / S::LANES * S::LANES;
    let (weight, last_weight) = norm.weight.split_at(middle);
    let (bias, last_bias) = norm.bias.split_at(middle);
    let (whole, rest) = row.split_at_mut(middle);
    let parameters = weight.chunks_exact(S::LANES).zip(bias.chunks_exact(S::LANES));
    for (values, (weight, bias)) in whole.chunks_exact_mut(S::LANES).zip(parameters) {
        normalize_part(s, values, (mean, factor), weight, bias);
    }
    normalize_part(s, rest, (mean, factor), last_weight, last_bias);
}

#[inline(always)]
fn normalize_part<S: Simd>(s: S, values: &mut [f32], (mean, factor): (S::F32, S::F32), weight: &[f32], bias: &[f32]) {
    let scaled = s.mul(s.sub(s.load_part(values), mean), factor);
    s.store_part(values, s.mul_add(scaled, s.load_part(weight), s.load_part(bias)));
}
