//! Writes finished rows, a few at a time.
#![allow(unsafe_code)]

use std::ops::Range;

use super::{BlockSums, Output, STRIPS, Work};
use crate::disjoint::Disjoint;
use crate::layout::PANEL;
use crate::simd::Simd;
use crate::simd::bf16::Bf16;
use crate::tiles::{SIDE, Tile};

/// A block of rows whose sums for a panel are complete, but not written yet.
#[derive(Debug, Default)]
pub(super) struct Finished {
    panel: usize,
    /// The index of its sums.
    block: usize,
    first_row: usize,
    /// The rows of the block that are left.
    left: Range<usize>,
}

impl Finished {
    pub(super) fn new(panel: usize, block: usize, first_row: usize, rows: usize) -> Self {
        Self { panel, block, first_row, left: 0..rows }
    }

    /// The number of rows that are left.
    #[inline(always)]
    pub(super) fn left(&self) -> usize {
        self.left.len()
    }

    /// The floats of the output for a row and the panel.
    #[inline(always)]
    fn place(&self, work: &Work<'_>, row: usize) -> Range<usize> {
        let outputs = work.weights.outputs;
        let column = self.panel * PANEL;
        let start = (self.first_row + row) * outputs + column;
        start..start + PANEL.min(outputs - column)
    }

    /// Prefetches the output.
    ///
    /// # Safety
    /// The same as for [`Finished::write`].
    #[inline(always)]
    pub(super) unsafe fn prepare<B: Bf16>(&self, bf16: B, work: &Work<'_>) {
        if let Output::Floats(output) = &work.output {
            for row in self.left.clone() {
                // SAFETY: by the caller's guarantee.
                bf16.simd().prepare_store(unsafe { output.slice(self.place(work, row)) });
            }
        }
    }

    /// Writes up to `count` rows.
    ///
    /// # Safety
    /// No other thread may write the same rows and panel at the same time.
    #[inline(always)]
    pub(super) unsafe fn write<B: Bf16>(&mut self, bf16: B, work: &Work<'_>, sums: &[BlockSums], count: usize) {
        for _ in 0..count.min(self.left()) {
            let row = self.left.start;
            self.left.start += 1;
            let totals = Totals { work, sums: &sums[self.block], row, bias: &work.weights.bias[self.panel * PANEL..] };
            match &work.output {
                Output::Floats(output) => {
                    // SAFETY: by the caller's guarantee.
                    let to = unsafe { output.slice(self.place(work, row)) };
                    let mut at = 0;
                    while at < to.len() {
                        bf16.simd().store_part(&mut to[at..], totals.vector(bf16.simd(), at));
                        at += B::Simd::LANES;
                    }
                }
                // SAFETY: by the caller's guarantee; a tile has rows of one block and columns of one panel.
                Output::Packed(output) => unsafe { self.pack(bf16, work, output, &totals) },
            }
        }
    }

    /// # Safety
    /// The same as for [`Finished::write`].
    #[inline(always)]
    unsafe fn pack<B: Bf16>(&self, bf16: B, work: &Work<'_>, output: &Disjoint<'_, Tile>, totals: &Totals<'_>) {
        let steps = work.weights.panels();
        let index = (self.first_row + totals.row) / SIDE * steps + self.panel;
        // SAFETY: by the caller's guarantee.
        let tile = unsafe { output.slice(index..index + 1) };
        let to = tile[0].row_mut(totals.row % SIDE);
        for at in (0..PANEL).step_by(B::Simd::LANES) {
            bf16.store(&mut to[at..], totals.vector(bf16.simd(), at));
        }
    }
}

/// The sums of a row for a panel.
struct Totals<'a> {
    work: &'a Work<'a>,
    sums: &'a BlockSums,
    /// In the block.
    row: usize,
    bias: &'a [f32],
}

impl Totals<'_> {
    /// The product for some columns, with bias and activation.
    #[inline(always)]
    fn vector<S: Simd>(&self, s: S, column: usize) -> S::F32 {
        let sums = &self.sums[self.row / SIDE * STRIPS + column / SIDE].0;
        let sum = s.load(&sums[self.row % SIDE * SIDE + column % SIDE..]);
        let total = s.add(sum, s.load(&self.bias[column..]));
        match self.work.activation {
            Some(activation) => activation.apply(s, total),
            None => total,
        }
    }
}
