//! Products with an instruction that multiplies four unsigned by four signed bytes for each column and adds the
//! products to 32-bit sums.
#![allow(unsafe_code)]

use super::{ByteProducts, Operands};
use crate::layout::{PANEL, QUAD};
use crate::simd::Simd;

/// A token for an instruction set with dot products of bytes. The methods without a safety section access no memory.
pub(in crate::linear) trait Dot: Copy {
    type Floats: Simd;

    /// A vector of 32-bit sums, one per column.
    type Sums: Copy;

    /// Four weights for each column of a vector.
    type Weights: Copy;

    /// Four bytes of a row, repeated.
    type Quad: Copy;

    const MAX_ROWS: usize;

    fn floats(self) -> Self::Floats;

    fn zero(self) -> Self::Sums;

    /// Loads the weights of a vector of columns.
    ///
    /// # Safety
    /// As many bytes must be readable.
    unsafe fn load(self, weights: *const i8) -> Self::Weights;

    /// Loads four bytes of a row, minus 128 if [`Dot::ones`] is not `None`.
    ///
    /// # Safety
    /// Four bytes must be readable.
    unsafe fn broadcast(self, quad: *const u8) -> Self::Quad;

    fn add_products(self, sums: Self::Sums, quad: Self::Quad, weights: Self::Weights) -> Self::Sums;

    fn times_256(self, sums: Self::Sums) -> Self::Sums;

    /// Four ones, for the sums of the weights, if the instruction multiplies signed bytes only.
    #[inline(always)]
    fn ones(self) -> Option<Self::Quad> {
        None
    }

    /// `sums + 128 * weight_sums`, modulo 2^32. Called only if [`Dot::ones`] is not `None`.
    #[inline(always)]
    fn add_128_times(self, sums: Self::Sums, _weight_sums: Self::Sums) -> Self::Sums {
        sums
    }

    fn to_floats(self, sums: Self::Sums) -> <Self::Floats as Simd>::F32;

    /// Prefetches the cache line of any address, even an invalid one.
    fn prefetch(self, address: *const i8);
}

impl<D: Dot> ByteProducts for D {
    type Floats = D::Floats;

    const MAX_ROWS: usize = D::MAX_ROWS;

    #[inline(always)]
    fn floats(self) -> D::Floats {
        Dot::floats(self)
    }

    #[allow(clippy::needless_range_loop, reason = "parallel arrays; iterators would need closures around vectors")]
    #[inline(always)]
    fn byte_products<const ROWS: usize>(self, operands: Operands<'_>) -> [[<D::Floats as Simd>::F32; 2]; ROWS] {
        operands.check::<D::Floats, ROWS>();
        let Operands { bytes, stride, weights, quads, high_quads, ahead } = operands;
        let mut bytes = bytes.as_ptr();
        let mut weights = weights.as_ptr();
        // If there is nothing to prefetch, prefetch a cache line that is already loaded.
        let step = ahead.step;
        let other_line = step.saturating_sub(64);
        let mut ahead = if step == 0 { weights } else { ahead.bytes.as_ptr() };
        let mut sums = [[self.zero(); 2]; ROWS];
        // Signed products use the bytes minus 128; 128 times the weights is added at the end.
        let ones = self.ones();
        let mut weight_sums = [self.zero(); 2];
        let high_end = weights.wrapping_add(high_quads * PANEL * QUAD);
        let end = weights.wrapping_add(quads * PANEL * QUAD);
        let mut part_end = if high_quads > 0 { high_end } else { end };
        loop {
            while weights < part_end {
                self.prefetch(ahead);
                self.prefetch(ahead.wrapping_add(other_line));
                ahead = ahead.wrapping_add(step);
                // SAFETY: all reads are within the slices, as just checked.
                unsafe {
                    let first = self.load(weights);
                    let second = self.load(weights.add(D::Floats::LANES * QUAD));
                    if let Some(ones) = ones {
                        weight_sums[0] = self.add_products(weight_sums[0], ones, first);
                        weight_sums[1] = self.add_products(weight_sums[1], ones, second);
                    }
                    for row in 0..ROWS {
                        let quad = self.broadcast(bytes.add(row * stride));
                        sums[row][0] = self.add_products(sums[row][0], quad, first);
                        sums[row][1] = self.add_products(sums[row][1], quad, second);
                    }
                }
                bytes = bytes.wrapping_add(QUAD);
                weights = weights.wrapping_add(PANEL * QUAD);
            }
            if part_end == end {
                break;
            }
            part_end = end;
            for row in 0..ROWS {
                sums[row] = [self.times_256(sums[row][0]), self.times_256(sums[row][1])];
            }
            if ones.is_some() {
                weight_sums = [self.times_256(weight_sums[0]), self.times_256(weight_sums[1])];
            }
        }
        let mut floats = [[Dot::floats(self).splat(0.0); 2]; ROWS];
        for row in 0..ROWS {
            if ones.is_some() {
                for vector in 0..2 {
                    sums[row][vector] = self.add_128_times(sums[row][vector], weight_sums[vector]);
                }
            }
            floats[row] = [self.to_floats(sums[row][0]), self.to_floats(sums[row][1])];
        }
        floats
    }
}
