//! Issues products ahead of the scaling of their sums.

use super::{Matrices, Operands, PREFETCH, Part, RING, SIDE, STEP, STEP_STRIDE, Sums};
use crate::linear::{CACHE_LINE, QuantizedRows};
use crate::simd::Simd;

/// Issues the products of some groups ahead of the scaling, one matrix of sums after another: for each block of rows,
/// strip of columns and operands.
pub(super) struct Ahead<'a> {
    weights: &'a [i8],
    end: Option<&'a [i8; 2 * STEP_STRIDE]>,
    operands: &'a [Operands],
    row_bytes: usize,
    strips: usize,
    /// The first row of the next block.
    rows: *const u8,
    blocks_left: usize,
    strip: usize,
    /// The index of the next operands.
    next: usize,
    prefetch: bool,
    /// How often [`Ahead::advance`] was called: one more than the number of matrices that have been stored, until all
    /// have been.
    pub(super) issued: usize,
    /// Whether a register holds sums that have not been stored.
    pending: bool,
}

impl<'a> Ahead<'a> {
    #[inline(always)]
    pub(super) fn new(part: &Part<'a>, operands: &'a [Operands]) -> Self {
        let QuantizedRows { bytes, row_bytes, .. } = part.work.input;
        Self {
            weights: part.weights,
            end: part.end,
            operands,
            row_bytes,
            strips: part.strips(),
            rows: bytes[part.first_row * row_bytes..].as_ptr(),
            blocks_left: part.blocks(),
            strip: 0,
            next: 0,
            prefetch: part.prefetch,
            issued: 0,
            pending: false,
        }
    }

    /// Issues the next products, if there are any, and stores the sums of those before them: a store that immediately
    /// follows its products would wait for them.
    ///
    /// # Safety
    /// The input must have whole blocks of rows.
    #[inline(always)]
    pub(super) unsafe fn advance(&mut self, s: impl Simd, matrices: &mut impl Matrices, ring: &mut [Sums; RING]) {
        // SAFETY: by the caller's guarantee.
        unsafe {
            match self.issued % RING {
                0 => self.advance_in::<0, 3>(s, matrices, ring),
                1 => self.advance_in::<1, 0>(s, matrices, ring),
                2 => self.advance_in::<2, 1>(s, matrices, ring),
                _ => self.advance_in::<3, 2>(s, matrices, ring),
            }
        }
        self.issued += 1;
    }

    /// # Safety
    /// The same as for [`Ahead::advance`].
    #[inline(always)]
    unsafe fn advance_in<const NEXT: usize, const PREVIOUS: usize>(
        &mut self,
        s: impl Simd,
        matrices: &mut impl Matrices,
        ring: &mut [Sums; RING],
    ) {
        let more = self.blocks_left > 0;
        if more {
            // SAFETY: by the caller's guarantee; a block is left.
            unsafe { self.issue::<NEXT>(s, matrices) };
        }
        if self.pending {
            matrices.store::<PREVIOUS>(&mut ring[PREVIOUS]);
        }
        self.pending = more;
    }

    /// # Safety
    /// The same as for [`Ahead::advance`]. A block must be left.
    #[inline(always)]
    unsafe fn issue<const NEXT: usize>(&mut self, s: impl Simd, matrices: &mut impl Matrices) {
        let Operands { byte, weight, steps } = self.operands[self.next];
        let line = self.strip * STEP;
        matrices.clear::<NEXT>();
        for step in 0..steps {
            let at = weight + step * STEP_STRIDE;
            let weights = match self.end {
                Some(end) if at + STEP_STRIDE > self.weights.len() => {
                    &end[at - self.weights.len().saturating_sub(STEP_STRIDE)..][..STEP_STRIDE]
                }
                _ => &self.weights[at..][..STEP_STRIDE],
            };
            // SAFETY: by the caller's guarantee; operands are within a row; a strip is one of two lines of each quad.
            unsafe {
                let rows = self.rows.add(byte + step * STEP);
                matrices.add_products::<NEXT>(rows, self.row_bytes, weights.as_ptr().add(line));
            }
        }
        if self.prefetch {
            // Each strip prefetches half of what the operands use.
            let ahead = self.weights.as_ptr().wrapping_add(weight + PREFETCH + self.strip * steps * STEP_STRIDE / 2);
            for line in 0..steps * STEP_STRIDE / 2 / CACHE_LINE {
                s.prefetch(ahead.wrapping_add(line * CACHE_LINE));
            }
        }
        self.next += 1;
        if self.next == self.operands.len() {
            self.next = 0;
            self.strip += 1;
        }
        if self.strip == self.strips {
            self.strip = 0;
            self.rows = self.rows.wrapping_add(SIDE * self.row_bytes);
            self.blocks_left -= 1;
            // The weights are in the cache now.
            self.prefetch = false;
        }
    }
}
