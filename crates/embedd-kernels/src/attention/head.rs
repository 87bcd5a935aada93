//! One attention task: the scores, the softmax and the weighted sum of values for each of its heads.
#![allow(unsafe_code)]

use super::AttentionInput;
use super::plan::Task;
use crate::disjoint::Disjoint;
use crate::math::exp2_vector;
use crate::multiply::{Rows, TILE_ROWS, multiply, pack, pack_transposed, padded};
use crate::simd::{Simd, Vectorized};

/// A task with its input and output.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) input: &'a AttentionInput<'a>,
    pub(super) size: usize,
    pub(super) task: &'a Task,
    /// float32 `[tokens, heads, head_size]`.
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
        let size = work.size;
        let keys = task.text.len();
        let padded_keys = padded::<S>(keys);
        let padded_size = padded::<S>(size);
        let lengths = [size * padded_keys, keys * padded_size, TILE_ROWS * padded_keys, TILE_ROWS * padded_size];
        let [key_panels, value_panels, scores, sums] = cut(self.scratch, lengths);
        for head in task.heads.clone() {
            pack_transposed(s, work.part(1, head), key_panels);
            pack(s, work.part(2, head), value_panels);
            for first in task.queries.clone().step_by(TILE_ROWS) {
                let count = TILE_ROWS.min(task.queries.end - first);
                let queries = work.part(0, head).part(first - task.text.start, count);
                multiply(s, queries, key_panels, keys, scores);
                let mut totals = [0.0; TILE_ROWS];
                for (index, row) in scores.chunks_exact_mut(padded_keys).take(count).enumerate() {
                    totals[index] = softmax(s, row, keys, work.scale(), work.bias(head, first + index));
                }
                let weights = Rows { values: scores, stride: padded_keys, count, columns: keys };
                multiply(s, weights, value_panels, size, sums);
                for (index, row) in sums.chunks_exact(padded_size).take(count).enumerate() {
                    let start = ((first + index) * work.input.heads + head) * size;
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
    /// The queries (0), keys (1) or values (2) of the text for one head.
    #[inline(always)]
    fn part(&self, which: usize, head: usize) -> Rows<'a> {
        let hidden = self.input.heads * self.size;
        let start = (self.task.text.start * 3 + which) * hidden + head * self.size;
        Rows { values: &self.input.qkv[start..], stride: 3 * hidden, count: self.task.text.len(), columns: self.size }
    }

    /// The factor for the dot products. It includes log2(e), because the softmax uses powers of 2.
    #[inline(always)]
    fn scale(&self) -> f32 {
        std::f32::consts::LOG2_E / (self.size as f32).sqrt()
    }

    /// The bias for the scores of a query: one float per key, or empty if there is no bias.
    #[inline(always)]
    fn bias(&self, head: usize, query: usize) -> &'a [f32] {
        let Some(bias) = self.input.bias else { return &[] };
        let start = head * (2 * bias.farthest + 1) + bias.farthest - (query - self.task.text.start);
        &bias.table[start..][..self.task.text.len()]
    }
}

/// Cuts 4 slices of `lengths` out of `scratch`, each aligned to a cache line.
#[inline(always)]
fn cut(scratch: &mut Vec<f32>, lengths: [usize; 4]) -> [&mut [f32]; 4] {
    const LINE: usize = 16;
    let whole: usize = lengths.iter().map(|length| length.next_multiple_of(LINE)).sum();
    if scratch.len() < whole + LINE {
        scratch.resize(whole + LINE, 0.0);
    }
    let skipped = scratch.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let mut rest = &mut scratch[skipped..];
    let mut parts: [&mut [f32]; 4] = Default::default();
    for (part, length) in parts.iter_mut().zip(lengths) {
        let (taken, after) = rest.split_at_mut(length.next_multiple_of(LINE));
        *part = &mut taken[..length];
        rest = after;
    }
    parts
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
