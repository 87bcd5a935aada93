//! Products with instructions that multiply integers of a row by weights, several for each column, and add the products
//! to 32-bit sums.
#![allow(unsafe_code)]

use super::{ByteProducts, Operands};
use crate::layout::{PANEL, QUAD};
use crate::simd::Simd;

/// A token for an instruction set with dot products of bytes. The methods without a safety section access no memory.
pub(in crate::linear) trait Dot: Copy {
    type Floats: Simd;

    /// A vector of 32-bit sums, one per column.
    type Sums: Copy;

    /// Weights for each column of a vector.
    type Weights: Copy;

    const MAX_ROWS: usize;

    /// The number of instructions that multiply a quad: one that takes four bytes per column, or two that take two 16-bit
    /// integers each.
    const PARTS: usize;

    /// Whether the instruction multiplies signed bytes only. If so, it gets the bytes of a row minus 128, and 128 times
    /// the weights is added at the end.
    const SIGNED: bool = false;

    fn floats(self) -> Self::Floats;

    fn zero(self) -> Self::Sums;

    /// Loads the weights of a vector of columns for one of the parts of a quad.
    ///
    /// # Safety
    /// The quad's four bytes per column must be readable.
    unsafe fn load(self, weights: *const i8, part: usize) -> Self::Weights;

    /// For two vectors of columns, adds the products of the weights and one of the parts of a quad of a widened row.
    ///
    /// # Safety
    /// The quad must be readable.
    unsafe fn add_products(self, sums: &mut [Self::Sums; 2], quad: *const u8, part: usize, weights: [Self::Weights; 2]);

    /// See [`ByteProducts::widen`]; the width is the number of parts. Of each quad, the integers of a part follow those
    /// of the previous part.
    #[inline(always)]
    fn widen(self, _memory: &mut [u8]) {
        const { assert!(Self::PARTS == 1) };
    }

    fn times_256(self, sums: Self::Sums) -> Self::Sums;

    /// Adds the weights of each column. Called only if [`Dot::SIGNED`].
    #[inline(always)]
    fn add_weights(self, sums: Self::Sums, _weights: Self::Weights) -> Self::Sums {
        sums
    }

    /// `sums + 128 * weight_sums`, modulo 2^32. Called only if [`Dot::SIGNED`].
    #[inline(always)]
    fn add_128_times(self, sums: Self::Sums, _weight_sums: Self::Sums) -> Self::Sums {
        sums
    }

    fn to_floats(self, sums: Self::Sums) -> <Self::Floats as Simd>::F32;
}

impl<D: Dot> ByteProducts for D {
    type Floats = D::Floats;

    const MAX_ROWS: usize = D::MAX_ROWS;

    const WIDTH: usize = D::PARTS;

    #[inline(always)]
    fn floats(self) -> D::Floats {
        Dot::floats(self)
    }

    #[inline(always)]
    fn widen(self, memory: &mut [u8]) {
        Dot::widen(self, memory);
    }

    #[allow(clippy::needless_range_loop, reason = "parallel arrays; iterators would need closures around vectors")]
    #[inline(always)]
    fn byte_products<const ROWS: usize>(self, operands: Operands<'_>) -> [[<D::Floats as Simd>::F32; 2]; ROWS] {
        operands.check::<D, ROWS>();
        let s = Dot::floats(self);
        let Operands { bytes, stride, weights, quads, high_quads, ahead } = operands;
        let mut bytes = bytes.as_ptr();
        let mut weights = weights.as_ptr();
        // If there is nothing to prefetch, prefetch a cache line that is already loaded.
        let step = ahead.step;
        let other_line = step.saturating_sub(64);
        let mut ahead = if step == 0 { weights } else { ahead.bytes.as_ptr() };
        let mut sums = [[self.zero(); 2]; ROWS];
        let mut weight_sums = [self.zero(); 2];
        let high_end = weights.wrapping_add(high_quads * PANEL * QUAD);
        let end = weights.wrapping_add(quads * PANEL * QUAD);
        let mut half_end = if high_quads > 0 { high_end } else { end };
        loop {
            while weights < half_end {
                s.prefetch_to_l2(ahead);
                s.prefetch_to_l2(ahead.wrapping_add(other_line));
                ahead = ahead.wrapping_add(step);
                // SAFETY: all reads are within the slices, as just checked.
                unsafe {
                    for part in 0..D::PARTS {
                        let first = self.load(weights, part);
                        let second = self.load(weights.add(D::Floats::LANES * QUAD), part);
                        if D::SIGNED {
                            weight_sums =
                                [self.add_weights(weight_sums[0], first), self.add_weights(weight_sums[1], second)];
                        }
                        for row in 0..ROWS {
                            self.add_products(&mut sums[row], bytes.add(row * stride), part, [first, second]);
                        }
                    }
                }
                bytes = bytes.wrapping_add(D::PARTS * QUAD);
                weights = weights.wrapping_add(PANEL * QUAD);
            }
            if half_end == end {
                break;
            }
            half_end = end;
            for row in 0..ROWS {
                sums[row] = [self.times_256(sums[row][0]), self.times_256(sums[row][1])];
            }
            if D::SIGNED {
                weight_sums = [self.times_256(weight_sums[0]), self.times_256(weight_sums[1])];
            }
        }
        let mut floats = [[s.splat(0.0); 2]; ROWS];
        for row in 0..ROWS {
            if D::SIGNED {
                for vector in 0..2 {
                    sums[row][vector] = self.add_128_times(sums[row][vector], weight_sums[vector]);
                }
            }
            floats[row] = [self.to_floats(sums[row][0]), self.to_floats(sums[row][1])];
        }
        floats
    }
}
