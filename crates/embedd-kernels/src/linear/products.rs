//! Products of quantized rows and packed weights, for each instruction set.
//!
//! [`tile`](super::tile) is written once over [`ByteProducts`]. Instruction sets implement [`dot::Dot`] and share one loop;
//! plain Rust has its own. Sums of integers are exact, so all of them compute the same numbers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod dot;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
#[cfg(target_arch = "x86_64")]
mod vnni;

use crate::layout::{PANEL, QUAD};
use crate::simd::Simd;
use crate::{InstructionSet, Kernels};

/// The products of an instruction set.
pub(super) trait ByteProducts: Copy {
    /// Vectors for everything that follows the products.
    type Floats: Simd;

    /// The maximum number of rows for [`ByteProducts::byte_products`].
    const MAX_ROWS: usize;

    /// How many bytes an integer of a row takes after [`ByteProducts::widen`]: 1 or 2.
    const WIDTH: usize;

    fn floats(self) -> Self::Floats;

    /// Widens a quantized row to `WIDTH` bytes per integer. The row is at the end of `memory` and fills it afterwards.
    fn widen(self, memory: &mut [u8]);

    /// The sums of the products of `operands` for each of `ROWS` rows of bytes and each column in two vectors of weights.
    /// Each sum is computed exactly, as an integer, and then converted to a float.
    ///
    /// Panics if a slice is too short.
    fn byte_products<const ROWS: usize>(self, operands: Operands<'_>) -> [[Vector<Self>; 2]; ROWS];
}

/// What [`ByteProducts::byte_products`] multiplies.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    /// Widened rows; row `r` begins at `bytes[r * stride]`.
    pub(super) bytes: &'a [u8],
    pub(super) stride: usize,
    /// The weights of quad `q`, four per column, begin at `weights[128 * q]`.
    pub(super) weights: &'a [i8],
    /// Four integers of a row, and the weights of four channels.
    pub(super) quads: usize,
    /// The first quads, whose products are multiplied by 256.
    pub(super) high_quads: usize,
    /// Prefetched at the same time.
    pub(super) ahead: Ahead<'a>,
}

/// A vector of the floats that follow the products of `P`.
pub(super) type Vector<P> = <<P as ByteProducts>::Floats as Simd>::F32;

/// Weights to prefetch for the next panel.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'a> {
    pub(super) bytes: &'a [i8],
    /// Bytes to prefetch per quad: 0, 64 or 128.
    pub(super) step: usize,
}

impl Operands<'_> {
    /// Panics unless all reads for `ROWS` rows and two vectors of columns are within the slices.
    #[inline(always)]
    fn check<P: ByteProducts, const ROWS: usize>(&self) {
        let Self { bytes, stride, weights, quads, high_quads, .. } = *self;
        let last_row = stride.saturating_mul(ROWS - 1);
        assert!(
            high_quads < quads
                && bytes.len() >= last_row.saturating_add(quads.saturating_mul(P::WIDTH * QUAD))
                && weights.len()
                    >= (quads - 1).saturating_mul(PANEL * QUAD).saturating_add(2 * P::Floats::LANES * QUAD)
        );
    }
}

/// Work with products that is written once and compiled for every instruction set.
pub(super) trait ProductWork {
    type Output;

    /// Must be `#[inline(always)]`.
    fn run<P: ByteProducts>(self, products: P) -> Self::Output;
}

impl Kernels {
    /// Runs `work`, compiled for the instruction set of these kernels.
    #[inline]
    pub(super) fn dispatch_products<W: ProductWork>(self, work: W) -> W::Output {
        match self.instruction_set() {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::AmxBf16
            | InstructionSet::AmxInt8
            | InstructionSet::Avx512Vnni
            | InstructionSet::EmulatedAmxBf16 => vnni::Vnni512::dispatch(self, work),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::AvxVnni => vnni::Vnni256::dispatch(self, work),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => avx2::dispatch(self, work),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::NeonI8mm => neon::dispatch_i8mm(self, work),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::NeonDotprod => neon::dispatch_dotprod(self, work),
            // A set of another architecture is never available.
            _ => work.run(crate::simd::plain::Plain),
        }
    }
}

#[cfg(test)]
mod tests;
