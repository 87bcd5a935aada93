//! Products with instructions that multiply whole matrices of bytes.
//!
//! Such an instruction multiplies 16 quantized rows by 16 columns, 64 channels at a time. Vector instructions then scale
//! the sums of each group, which takes about as long. So that both work at the same time, products are issued two groups
//! ahead. Sums of integers are exact, and floats are added in the same order as in [`tile`](super::tile), so a product
//! has the same bits as with any other kernel on the same vectors.
#![allow(unsafe_code)]

mod ahead;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) mod amx;
#[cfg(test)]
pub(super) mod model;
mod scale;

use std::ops::Range;

use super::{ProductKernel, QuantizedRows, Task, Work};
use crate::disjoint::Disjoint;
use crate::layout::{PANEL, QUAD};
use crate::simd::Simd;
use ahead::Ahead;
use scale::{add_scaled, load, load_totals, store_totals};

/// The rows and columns of a matrix of sums.
pub(super) const SIDE: usize = 16;
/// The bytes of a row that one instruction multiplies. In a quantized row, each group is padded to a multiple of them.
pub(super) const STEP: usize = 64;
/// Bytes from one quad of packed weights to the next.
pub(super) const QUAD_STRIDE: usize = PANEL * QUAD;
/// Bytes from one step of packed weights to the next.
const STEP_STRIDE: usize = STEP / QUAD * QUAD_STRIDE;

/// Groups that all rows of a part are multiplied by before the next groups: 24 KB of weights, which stay in the L1 cache.
const GROUPS_AT_ONCE: usize = 6;
/// Rows of a part, whose totals take 32 KB.
const ROWS_AT_ONCE: usize = 256;
/// Matrices of sums in flight: those that are being scaled, and those whose products are issued ahead.
const RING: usize = 4;
/// Matrices of sums whose products are issued ahead. A group with outlier channels has two matrices, so up to
/// `AHEAD + 2` are in flight.
const AHEAD: usize = 2;
/// How many bytes ahead weights are prefetched.
const PREFETCH: usize = 4096;
/// The maximum number of vectors in a row of sums.
const MAX_VECTORS: usize = 4;

/// `[16 rows, 16 columns]`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [i32; SIDE * SIDE]);

/// `[16 rows, 16 columns]`.
type Totals = [f32; SIDE * SIDE];

/// The matrix registers of a thread, of which [`RING`] hold sums.
pub(super) trait Matrices {
    /// Sets the sums in register `SUMS` to 0.
    fn clear<const SUMS: usize>(&mut self);

    /// Adds to the sums in register `SUMS` the products of 16 rows of 64 bytes, which begin `stride` bytes apart, and
    /// their weights for 16 columns: 16 quads of 64 bytes, which begin [`QUAD_STRIDE`] bytes apart.
    ///
    /// # Safety
    /// All these bytes must be readable.
    unsafe fn add_products<const SUMS: usize>(&mut self, rows: *const u8, stride: usize, weights: *const i8);

    /// Stores the sums in register `SUMS`.
    fn store<const SUMS: usize>(&mut self, to: &mut Sums);
}

/// Vectors of floats that can be loaded from integers.
pub(super) trait FromSums: Simd {
    /// Converts the `LANES` integers at `sums`.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load_sums(self, sums: *const i32) -> Self::F32;

    /// Like [`FromSums::load_sums`], for `256 * high + low`, modulo 2^32.
    ///
    /// # Safety
    /// The same as for [`FromSums::load_sums`].
    unsafe fn load_split_sums(self, high: *const i32, low: *const i32) -> Self::F32;
}

/// The kernel that runs tasks with `run`.
pub(super) fn kernel<'a>(run: &'a (dyn Fn(Task<'_>) + Sync)) -> ProductKernel<'a> {
    ProductKernel { rows: 2 * SIDE, group: STEP, width: 1, run }
}

/// A kernel's registers and memory, for one task.
pub(super) struct MatrixKernel<'a, S, M> {
    s: S,
    matrices: M,
    work: &'a Work<'a>,
    operands: Vec<Operands>,
    ring: [Sums; RING],
    /// For each block of rows and strip of columns.
    totals: Vec<Totals>,
    /// The last weights of a layer, followed by as many others: see [`Part::end`].
    end: [i8; 2 * STEP_STRIDE],
}

/// Where the products of a group begin. A group with outlier channels has two, for the high and the low bytes.
#[derive(Clone, Copy)]
struct Operands {
    /// In a quantized row.
    byte: usize,
    /// In a panel of weights.
    weight: usize,
    steps: usize,
}

/// The product of some rows and a panel.
#[derive(Clone, Copy)]
struct Part<'a> {
    work: &'a Work<'a>,
    operands: &'a [Operands],
    first_row: usize,
    end_row: usize,
    panel: usize,
    /// From the first weight of the panel to the last one of the layer.
    weights: &'a [i8],
    /// If the last step would read past the last weight of the layer: the last weights, followed by as many others.
    /// What a step reads past the end of its group does not matter, because the rows have zeros there.
    end: Option<&'a [i8; 2 * STEP_STRIDE]>,
    /// Whether to prefetch weights.
    prefetch: bool,
}

impl<'a, S: FromSums, M: Matrices> MatrixKernel<'a, S, M> {
    /// Panics if the input does not have the layout that [`kernel`] requires.
    #[inline(always)]
    pub(super) fn new(s: S, matrices: M, work: &'a Work<'a>) -> Self {
        let mut operands = Vec::with_capacity(1 + work.groups.len());
        for (row, weights) in work.input.groups.iter().zip(work.groups) {
            let steps = row.half().len() / STEP;
            assert!(row.split == weights.split && steps * STEP >= weights.half().len(), "rows padded to whole steps");
            for (byte, weight) in row.halves().zip(weights.halves()) {
                operands.push(Operands { byte, weight: weight * PANEL, steps });
            }
        }
        let ring = [Sums([0; SIDE * SIDE]); RING];
        Self { s, matrices, work, operands, ring, totals: Vec::new(), end: [0; 2 * STEP_STRIDE] }
    }

    /// Multiplies `rows` by the panel `panel` and writes the product to the output.
    ///
    /// # Safety
    /// No other thread may write the same rows of the same panel at the same time.
    ///
    /// # Panics
    /// If the input does not have whole blocks of 16 rows, beginning with the first of `rows`.
    #[inline(always)]
    pub(super) unsafe fn panel(&mut self, panel: usize, rows: Range<usize>, output: &Disjoint<'_, f32>) {
        let Self { s, matrices, work, operands, ring, totals, end } = self;
        let QuantizedRows { bytes, row_bytes, factors, .. } = work.input;
        let groups = work.groups.len();
        let padded_end = rows.start + rows.len().next_multiple_of(SIDE);
        assert!(bytes.len() >= padded_end * row_bytes && factors.len() >= padded_end * 2 * groups);
        let weights = &work.weights.weights[panel * PANEL * work.weights.layout.row_bytes()..];
        let last_step = operands.last().map_or(0, |last| last.weight + (last.steps - 1) * STEP_STRIDE);
        let reads_past_end = last_step + STEP_STRIDE > weights.len();
        if reads_past_end {
            let last = &weights[weights.len().saturating_sub(STEP_STRIDE)..];
            end[..last.len()].copy_from_slice(last);
        }
        let end = reads_past_end.then_some(&*end);
        totals.resize(rows.len().min(ROWS_AT_ONCE).div_ceil(SIDE) * (PANEL / SIDE), [0.0; SIDE * SIDE]);
        for first_row in rows.clone().step_by(ROWS_AT_ONCE) {
            let end_row = rows.end.min(first_row + ROWS_AT_ONCE);
            let prefetch = first_row == rows.start;
            let part = Part { work, operands, first_row, end_row, panel, weights, end, prefetch };
            for first in (0..groups).step_by(GROUPS_AT_ONCE) {
                let groups = first..groups.min(first + GROUPS_AT_ONCE);
                // SAFETY: by the caller's guarantee; the input has whole blocks of rows, as just checked.
                unsafe { part.add_groups(*s, matrices, ring, groups, totals, output) };
            }
        }
    }
}

impl Part<'_> {
    fn blocks(&self) -> usize {
        (self.end_row - self.first_row).div_ceil(SIDE)
    }

    /// Strips of 16 columns.
    fn strips(&self) -> usize {
        (self.work.weights.outputs - self.panel * PANEL).min(PANEL).div_ceil(SIDE)
    }

    /// The operands of some groups.
    fn operands_of(&self, groups: &Range<usize>) -> &[Operands] {
        // Only the first group can have outlier channels.
        let more = self.operands.len() - self.work.groups.len();
        let start = if groups.start == 0 { 0 } else { groups.start + more };
        &self.operands[start..groups.end + more]
    }

    /// Adds the products of some groups to the totals. Begins with the bias, and writes the output after the last group.
    ///
    /// # Safety
    /// The same as for [`MatrixKernel::panel`]; its input must have whole blocks of 16 rows.
    #[inline(always)]
    unsafe fn add_groups<S: FromSums, M: Matrices>(
        &self,
        s: S,
        matrices: &mut M,
        ring: &mut [Sums; RING],
        groups: Range<usize>,
        totals: &mut [Totals],
        output: &Disjoint<'_, f32>,
    ) {
        let Work { input, weights, groups: all_groups, .. } = self.work;
        let row_factors = 2 * all_groups.len();
        let scales = &weights.scales[self.panel * PANEL * row_factors..][..PANEL * row_factors];
        let bias = &weights.bias[self.panel * PANEL..][..PANEL];
        let mut ahead = Ahead::new(self, self.operands_of(&groups));
        let mut scaled = 0;
        for block in 0..self.blocks() {
            let first_row = self.first_row + block * SIDE;
            let factors = &input.factors[first_row * row_factors..][..SIDE * row_factors];
            for strip in 0..self.strips() {
                let column = strip * SIDE;
                let memory = &mut totals[block * (PANEL / SIDE) + strip];
                let mut sums =
                    if groups.start == 0 { [load(s, &bias[column..][..SIDE]); SIDE] } else { load_totals(s, memory) };
                for group in groups.clone() {
                    let split = all_groups[group].split;
                    let next = scaled + 1 + usize::from(split);
                    while ahead.issued < next + AHEAD {
                        // SAFETY: by the caller's guarantee.
                        unsafe { ahead.advance(s, matrices, ring) };
                    }
                    let scales = &scales[group * 2 * PANEL + column..][..PANEL + SIDE];
                    let factors = &factors[2 * group..];
                    let [high, low] = [&ring[scaled % RING], &ring[(scaled + 1) % RING]];
                    if split {
                        add_scaled::<S, true>(s, &mut sums, high, low, scales, factors, row_factors);
                    } else {
                        add_scaled::<S, false>(s, &mut sums, high, low, scales, factors, row_factors);
                    }
                    scaled = next;
                }
                store_totals(s, memory, &sums);
                if groups.end == all_groups.len() {
                    // SAFETY: by the caller's guarantee.
                    unsafe { self.write(s, memory, first_row, column, output) };
                }
            }
        }
    }

    /// Applies the activation to the totals and writes them to the output.
    ///
    /// # Safety
    /// The same as for [`MatrixKernel::panel`].
    #[inline(always)]
    unsafe fn write<S: FromSums>(
        &self,
        s: S,
        totals: &Totals,
        first_row: usize,
        column: usize,
        output: &Disjoint<'_, f32>,
    ) {
        let outputs = self.work.weights.outputs;
        let column = self.panel * PANEL + column;
        let width = (outputs - column).min(SIDE);
        for (row, totals) in (first_row..self.end_row.min(first_row + SIDE)).zip(totals.chunks_exact(SIDE)) {
            let start = row * outputs + column;
            // SAFETY: by the caller's guarantee; no other block has these rows and columns.
            let to = unsafe { output.slice(start..start + width) };
            let mut at = 0;
            while at < width {
                let mut total = s.load(&totals[at..]);
                if let Some(activation) = self.work.activation {
                    total = activation.apply(s, total);
                }
                s.store_part(&mut to[at..], total);
                at += S::LANES;
            }
        }
    }
}

#[cfg(test)]
mod tests;
