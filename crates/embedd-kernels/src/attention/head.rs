//! One attention task: the scores, the softmax and the weighted sum of values for each of its heads.
#![allow(unsafe_code)]

use std::ops::Range;

use super::disentangled::{Products, Span};
use super::plan::Task;
use super::{AttentionInput, Distances};
use crate::disjoint::Disjoint;
use crate::math::exp2_vector;
use crate::multiply::{Panels, Rows, TILE_ROWS, multiply, pack, pack_transposed, padded, panel_width};
use crate::simd::{Simd, Vectorized};

/// A task with its input and output.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) input: &'a AttentionInput<'a>,
    pub(super) task: &'a Task,
    /// float32 `[tokens, query heads, head_size]`.
    pub(super) outputs: &'a Disjoint<'a, f32>,
}

/// Runs a task. No other thread may run the same one.
pub(super) struct Attend<'a> {
    pub(super) work: Work<'a>,
    pub(super) scratch: &'a mut Vec<f32>,
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
        let parts = cut(self.scratch, [a, b, c, d, e, f, g, h, i]);
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
                let within = work.within_reach::<S>(position, count);
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

impl<'a> Work<'a> {
    /// The text's queries for one query head.
    #[inline(always)]
    fn queries(&self, head: usize) -> Rows<'a> {
        self.part(head)
    }

    /// The text's keys for one query head.
    #[inline(always)]
    pub(super) fn keys(&self, head: usize) -> Rows<'a> {
        self.part(self.input.heads.query + self.key_head(head))
    }

    /// The text's values for one query head.
    #[inline(always)]
    fn values(&self, head: usize) -> Rows<'a> {
        let heads = self.input.heads;
        self.part(heads.query + heads.key + self.key_head(head))
    }

    /// The key head that a query head uses.
    #[inline(always)]
    fn key_head(&self, head: usize) -> usize {
        head / (self.input.heads.query / self.input.heads.key)
    }

    /// The part at `head` of the rows of queries, keys and values.
    #[inline(always)]
    fn part(&self, head: usize) -> Rows<'a> {
        let heads = self.input.heads;
        let start = self.task.text.start * heads.row() + head * heads.size;
        let values = &self.input.qkv[start..];
        Rows { values, stride: heads.row(), count: self.task.text.len(), columns: heads.size }
    }

    /// The factor for the dot products. It includes log2(e), because the softmax uses powers of 2.
    #[inline(always)]
    fn scale(&self) -> f32 {
        std::f32::consts::LOG2_E / self.input.squared_divisor.sqrt()
    }

    /// The keys within reach of some of `count` queries, the first of which is at `position` in its text. The range has
    /// whole panels. The scores of all other keys would be hidden.
    #[inline(always)]
    fn within_reach<S: Simd>(&self, position: usize, count: usize) -> Range<usize> {
        let keys = self.task.text.len();
        let reach = self.input.reach;
        let start = reach.keys(position, keys).start / panel_width::<S>() * panel_width::<S>();
        start..reach.keys(position + count - 1, keys).end.next_multiple_of(panel_width::<S>()).min(keys)
    }

    /// The bias for the scores of a query: one float for each of `keys`, or empty if there is no bias.
    #[inline(always)]
    fn bias(&self, head: usize, query: usize, keys: Range<usize>) -> &'a [f32] {
        let Distances::Bias { table, farthest } = self.input.distances else { return &[] };
        let start = head * (2 * farthest + 1) + farthest - (query - self.task.text.start);
        &table[start..][keys]
    }
}

/// Hides the scores, of the first `keys` in `row`, of keys that are not `visible`.
#[inline(always)]
fn hide(row: &mut [f32], visible: Range<usize>, keys: usize) {
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
fn cut<const N: usize>(scratch: &mut Vec<f32>, lengths: [usize; N]) -> [&mut [f32]; N] {
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
fn softmax<S: Simd>(s: S, row: &mut [f32], keys: usize, scale: f32, bias: &[f32]) -> f32 {
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
fn write<S: Simd>(s: S, row: &[f32], factor: f32, output: &mut [f32]) {
    let factor = s.splat(factor);
    for (from, to) in row.chunks_exact(S::LANES).zip(output.chunks_mut(S::LANES)) {
        s.store_part(to, s.mul(s.load(from), factor));
    }
}
