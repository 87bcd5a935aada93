//! Vectors of floats, so that a kernel is written once and compiled for every instruction set.
//!
//! A token (a value of a type that is [`Simd`]) is the proof that this CPU has its instruction set: it is made from
//! [`Kernels`], which exist for available sets only. [`Kernels::vectorize`] runs [`Vectorized`] work with the right
//! token inside a function that is compiled for the set. Everything that takes a token and runs in a loop is
//! `#[inline(always)]`: what is not inlined into that function is compiled without the set's instructions. For the same
//! reason kernels have no closures around vectors: those cannot be marked so.

use super::Kernels;
use super::layout::{PANEL, QUAD};

/// A safe method by intrinsics that touch no memory, for a token.
#[cfg(target_arch = "x86_64")]
macro_rules! pure {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $output:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: $type),*) -> $output {
            // SAFETY: the token proves that this CPU has the instructions; no memory is touched.
            unsafe { $body }
        }
    )*};
}

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
pub(super) mod plain;
#[cfg(test)]
mod tests;

/// What kernels ask of an instruction set. Lane by lane, and in IEEE 754's arithmetic, where nothing else is said.
pub(super) trait Simd: Copy {
    /// A vector of float32.
    type F32: Copy;

    /// Floats of a vector.
    const LANES: usize;

    /// Vectors that the CPU holds in registers.
    const REGISTERS: usize;

    fn splat(self, value: f32) -> Self::F32;

    /// The first lanes of `values`; panics where it has fewer.
    fn load(self, values: &[f32]) -> Self::F32;

    /// The first lanes of `values`; 0 in the lanes that it has not.
    fn load_first(self, values: &[f32]) -> Self::F32;

    /// As [`Simd::load`], from integers.
    fn load_bytes(self, values: &[i8]) -> Self::F32;

    /// As [`Simd::load_first`], from integers.
    fn load_bytes_first(self, values: &[i8]) -> Self::F32;

    /// To the first elements of `to`; panics where it has fewer than there are lanes.
    fn store(self, to: &mut [f32], vector: Self::F32);

    /// To the elements of `to`, but not to more than there are lanes.
    fn store_first(self, to: &mut [f32], vector: Self::F32);

    /// [`Simd::load_first`], quickly where there are enough values: for loops that end in a part of a vector.
    #[inline(always)]
    fn load_part(self, values: &[f32]) -> Self::F32 {
        if values.len() < Self::LANES { self.load_first(values) } else { self.load(values) }
    }

    /// [`Simd::store_first`], quickly where there is enough room.
    #[inline(always)]
    fn store_part(self, to: &mut [f32], vector: Self::F32) {
        if to.len() < Self::LANES { self.store_first(to, vector) } else { self.store(to, vector) }
    }

    /// The first `count` lanes of `vector`, and `others` in the lanes behind.
    fn first_or(self, vector: Self::F32, count: usize, others: Self::F32) -> Self::F32;

    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;

    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;

    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;

    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a b + c`: rounded once where the set has an instruction for it, else twice.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;

    /// The greater; `b` where one of them is no number.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// The smaller; `b` where one of them is no number.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;

    fn abs(self, a: Self::F32) -> Self::F32;

    /// To the nearest integer, ties to even. Defined between -2^22 and 2^22.
    fn round(self, a: Self::F32) -> Self::F32;

    /// `a 2^n` for an integer `n` between -126 and 127.
    fn scale_by_power(self, a: Self::F32, n: Self::F32) -> Self::F32;

    /// `yes` where `a < b`, else `no`.
    fn select_less(self, a: Self::F32, b: Self::F32, yes: Self::F32, no: Self::F32) -> Self::F32;

    /// Float `c` of row `r` of `from` becomes float `r` of row `c` of `to`, whose rows begin `stride` floats behind
    /// each other; panics where there are not 8 of each.
    fn transpose_8x8(self, from: [&[f32]; 8], to: &mut [f32], stride: usize);

    /// The sum of all lanes: halves added, then halves of those, and so on.
    fn sum(self, a: Self::F32) -> f32;

    /// The greatest lane.
    fn greatest(self, a: Self::F32) -> f32;

    /// As [`Simd::store`], to bytes: every lane an integer from 0 to 255.
    fn store_bytes(self, to: &mut [u8], vector: Self::F32);

    /// As [`Simd::store_first`], to bytes.
    fn store_bytes_first(self, to: &mut [u8], vector: Self::F32);

    /// Asks for the memory of `to`, of which two vectors will be written.
    fn prepare_store(self, to: &mut [f32]);

    /// Rows that [`Simd::byte_products`] takes at most.
    const PRODUCT_ROWS: usize;

    /// For each of `ROWS` rows of bytes and of two vectors of columns of weights: the sum of `4 quads` products, exact
    /// as an integer, then as a float. Row `r` begins `r stride` bytes on; the weights of the columns for quad `q`, four
    /// for each, begin at `weights[128 q]`. Products of the first `high_quads` quads count 256 times.
    /// Meanwhile what lies `ahead` is asked for from memory.
    ///
    /// Panics where the slices are shorter than that.
    fn byte_products<const ROWS: usize>(
        self,
        bytes: &[u8],
        stride: usize,
        weights: &[i8],
        high_quads: usize,
        quads: usize,
        ahead: Ahead<'_>,
    ) -> [[Self::F32; 2]; ROWS];
}

/// What is wanted next.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'a> {
    pub(super) bytes: &'a [i8],
    /// Bytes that are asked for with each quad: 0, 64 or 128.
    pub(super) step: usize,
}

/// Whether the slices reach as far as [`Simd::byte_products`] reads.
#[inline(always)]
fn products_are_within<S: Simd, const ROWS: usize>(bytes: &[u8], stride: usize, weights: &[i8], quads: usize) -> bool {
    let last_row = stride.saturating_mul(ROWS - 1);
    quads > 0
        && bytes.len() >= last_row.saturating_add(quads.saturating_mul(QUAD))
        && weights.len() >= (quads - 1).saturating_mul(PANEL * QUAD).saturating_add(2 * S::LANES * QUAD)
}

/// Work that is written once for every instruction set.
pub(super) trait Vectorized {
    type Output;

    /// Must be `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

impl Kernels {
    /// Runs `work` compiled for these kernels' instruction set.
    #[inline]
    pub(super) fn vectorize<W: Vectorized>(self, work: W) -> W::Output {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(token) = avx512::Avx512::new(self) {
                return token.vectorize(work);
            }
            if let Some(token) = avx2::Avx2::new(self) {
                return token.vectorize(work);
            }
        }
        work.run(plain::Plain)
    }
}
