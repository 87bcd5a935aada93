//! One attention task: the scores, the softmax and the weighted sum of values for each of its heads.
#![allow(unsafe_code)]

use std::ops::Range;

use super::disentangled::{Products, Span};
use super::work::Work;
use super::{Distances, Scratch};
use crate::math::exp2_vector;
use crate::multiply::{Panels, Rows, TILE_ROWS, multiply, pack, pack_transposed, padded, panel_width};
use crate::simd::{Simd, Vectorized};

/// Runs a task. No other thread may run the same one.
pub(super) struct Attend<'a> {
    pub(super) work: Work<'a>,
    pub(super) scratch: &'a mut Scratch,
}

impl Vectorized for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let work = self.work;
        let task = work.task;
        let size = work.input.heads.size;
        let keys = task.text.len();
        let padded_keys = padded::<S>(keys);
        let padded_size = padded::<S>(size);
        let span = Span::of(&work);
        let tables = if let Distances::Disentangled(tables) = &work.input.distances { Some(tables) } else { None };
        let products = if tables.is_some() { span.lengths::<S>(size, keys) } else { [0; 5] };
        let lengths = [size * padded_keys, keys * padded_size, TILE_ROWS * padded_keys, TILE_ROWS * padded_size];
        let [a, b, c, d] = lengths;
        let [e, f, g, h, i] = products;
        let parts = cut(&mut self.scratch.floats, [a, b, c, d, e, f, g, h, i]);
        let [key_panels, value_panels, scores, sums, embeddings, key_rows, query_rows, of_queries, of_keys] = parts;
        let mut products = Products { embeddings, key_panels: key_rows, query_panels: query_rows, of_queries, of_keys };
        let mut packed = None;
        for head in task.heads.clone() {
            // Neighboring query heads may share their keys and values.
            let key_head = work.key_head(head);
            if packed != Some(key_head) {
                pack_transposed(s, work.keys(head), key_panels);
                pack(s, work.values(head), value_panels);
                packed = Some(key_head);
            }
            if let Some(tables) = tables {
                products.begin(s, &work, tables, span, head);
            }
            for first in task.queries.clone().step_by(TILE_ROWS) {
                let count = TILE_ROWS.min(task.queries.end - first);
                let position = first - task.text.start;
                let queries = work.queries(head).part(position, count);
                let within = work.within_reach(position, count, panel_width::<S>());
                let visible = within.len();
                let panels = Panels::whole(key_panels, size, keys).columns(within.start, within.end);
                multiply(s, queries, panels, scores);
                if let Some(tables) = tables {
                    products.add(s, tables, span, queries, position, (scores, keys));
                }
                let mut totals = [0.0; TILE_ROWS];
                for (index, row) in scores.chunks_exact_mut(padded::<S>(visible)).take(count).enumerate() {
                    let reach = work.input.reach.keys(position + index, keys);
                    hide(row, reach.start - within.start..reach.end - within.start, visible);
                    let bias = work.bias(head, first + index, within.clone());
                    totals[index] = softmax(s, row, visible, work.scale(), bias);
                }
                let weights = Rows { values: scores, stride: padded::<S>(visible), count, columns: visible };
                multiply(s, weights, Panels::whole(value_panels, keys, size).rows_from(within.start), sums);
                for (index, row) in sums.chunks_exact(padded_size).take(count).enumerate() {
                    let start = ((first + index) * work.input.heads.query + head) * size;
                    // SAFETY: `plan` puts each pair of a query and a head into exactly one task (its tests check this),
                    // and each task runs once.
                    let output = unsafe { work.outputs.slice(start..start + size) };
                    write(s, row, 1.0 / totals[index], output);
                }
            }
        }
    }
}

/// Hides the scores, of the first `keys` in `row`, of keys that are not `visible`.
#[inline(always)]
pub(super) fn hide(row: &mut [f32], visible: Range<usize>, keys: usize) {
    // `fill` calls a function even for an empty slice.
    if visible.start > 0 {
        row[..visible.start].fill(f32::NEG_INFINITY);
    }
    if visible.end < keys {
        row[visible.end..keys].fill(f32::NEG_INFINITY);
    }
}

/// Cuts slices of `lengths` out of `scratch`, each aligned to a cache line.
#[inline(always)]
pub(super) fn cut<const N: usize>(scratch: &mut Vec<f32>, lengths: [usize; N]) -> [&mut [f32]; N] {
    const LINE: usize = 16;
    let whole: usize = lengths.iter().map(|length| length.next_multiple_of(LINE)).sum();
    if scratch.len() < whole + LINE {
        scratch.resize(whole + LINE, 0.0);
    }
    let skipped = scratch.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let mut rest = &mut scratch[skipped..];
    lengths.map(|length| {
        let (part, after) = std::mem::take(&mut rest).split_at_mut(length.next_multiple_of(LINE));
        rest = after;
        &mut part[..length]
    })
}

/// Turns the dot products of a query with `keys` keys into weights and returns the sum of the weights; padding gets
/// weight 0. The weights are powers of 2, which are cheaper than powers of e: `scale` already includes log2(e), and the
/// bias is multiplied by it here.
#[inline(always)]
pub(super) fn softmax<S: Simd>(s: S, row: &mut [f32], keys: usize, scale: f32, bias: &[f32]) -> f32 {
    let scale = s.splat(scale);
    let log2_e = s.splat(std::f32::consts::LOG2_E);
    let minus_infinity = s.splat(f32::NEG_INFINITY);
    let mut max = minus_infinity;
    for (index, vector) in row.chunks_exact_mut(S::LANES).enumerate() {
        let first = index * S::LANES;
        let mut score = s.mul(s.load(vector), scale);
        if !bias.is_empty() {
            score = s.mul_add(s.load_part(&bias[first..]), log2_e, score);
        }
        if keys - first < S::LANES {
            score = s.first_or(score, keys - first, minus_infinity);
        }
        max = s.max(max, score);
        s.store(vector, score);
    }
    let max = s.splat(s.max_lane(max));
    let mut sum = s.splat(0.0);
    for vector in row.chunks_exact_mut(S::LANES) {
        let weight = exp2_vector(s, s.sub(s.load(vector), max));
        sum = s.add(sum, weight);
        s.store(vector, weight);
    }
    s.sum(sum)
}

/// Writes `factor * row` to `output`; `row` may be padded.
#[inline(always)]
pub(super) fn write<S: Simd>(s: S, row: &[f32], factor: f32, output: &mut [f32]) {
    let factor = s.splat(factor);
    for (from, to) in row.chunks_exact(S::LANES).zip(output.chunks_mut(S::LANES)) {
        s.store_part(to, s.mul(s.load(from), factor));
    }
}
