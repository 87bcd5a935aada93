//! Vectors of floats. Each kernel is written once and compiled for every instruction set.
//!
//! A token (a value of a type that implements [`Simd`]) proves that this CPU supports the token's instruction set: it
//! is created from [`Kernels`], which exist only for available sets. [`Kernels::dispatch`] runs [`Vectorized`] work
//! with the matching token inside a function that is compiled for the set. Every function that takes a token and runs
//! in a loop is `#[inline(always)]`: code that is not inlined into that function is compiled without the set's
//! instructions. Kernels do not use closures around vectors for the same reason: a closure cannot be marked
//! `#[inline(always)]`.

use super::Kernels;

/// Defines safe token methods from intrinsics that access no memory.
#[cfg(target_arch = "x86_64")]
macro_rules! pure {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $output:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: $type),*) -> $output {
            // SAFETY: the token proves that this CPU supports the instructions; they access no memory.
            unsafe { $body }
        }
    )*};
}
#[cfg(target_arch = "x86_64")]
pub(super) use pure;

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other architecture has tiles"))]
pub(super) mod bf16;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
pub(super) mod plain;
#[cfg(test)]
mod tests;

/// The operations on floats that kernels need from an instruction set. Unless stated otherwise, they work lane by lane
/// and follow IEEE 754.
pub(super) trait Simd: Copy {
    /// A vector of float32.
    type F32: Copy;

    /// Floats per vector.
    const LANES: usize;

    /// The number of vector registers.
    const REGISTERS: usize;

    fn splat(self, value: f32) -> Self::F32;

    /// Loads the first `LANES` of `values`; panics if there are fewer.
    fn load(self, values: &[f32]) -> Self::F32;

    /// Loads up to `LANES` of `values`; missing lanes are 0.
    fn load_first(self, values: &[f32]) -> Self::F32;

    /// Like [`Simd::load`], from integers.
    fn load_bytes(self, values: &[i8]) -> Self::F32;

    /// Like [`Simd::load_first`], from integers.
    fn load_bytes_first(self, values: &[i8]) -> Self::F32;

    /// Stores all lanes at the start of `to`; panics if `to` is shorter than a vector.
    fn store(self, to: &mut [f32], vector: Self::F32);

    /// Stores the first `to.len()` lanes, or all of them if `to` is longer than a vector.
    fn store_first(self, to: &mut [f32], vector: Self::F32);

    /// [`Simd::load_first`] with a fast path for whole vectors, for loops whose last vector may be partial.
    #[inline(always)]
    fn load_part(self, values: &[f32]) -> Self::F32 {
        if values.len() < Self::LANES { self.load_first(values) } else { self.load(values) }
    }

    /// [`Simd::store_first`] with a fast path for whole vectors.
    #[inline(always)]
    fn store_part(self, to: &mut [f32], vector: Self::F32) {
        if to.len() < Self::LANES { self.store_first(to, vector) } else { self.store(to, vector) }
    }

    /// The first `count` lanes of `vector`, followed by the remaining lanes of `others`.
    fn first_or(self, vector: Self::F32, count: usize, others: Self::F32) -> Self::F32;

    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;

    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;

    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;

    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a * b + c`: rounded once if the set has a fused instruction, twice otherwise.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;

    /// The larger value; `b` if either is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// The smaller value; `b` if either is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;

    fn abs(self, a: Self::F32) -> Self::F32;

    /// Rounds to the nearest integer, ties to even. Defined between -2^22 and 2^22.
    fn round(self, a: Self::F32) -> Self::F32;

    /// `a * 2^n` for an integer `n` between -126 and 127.
    fn scale_by_power(self, a: Self::F32, n: Self::F32) -> Self::F32;

    /// `yes` where `a < b`, `no` elsewhere.
    fn select_less(self, a: Self::F32, b: Self::F32, yes: Self::F32, no: Self::F32) -> Self::F32;

    /// Float `c` of row `r` of `from` becomes float `r` of row `c` of `to`, whose rows begin `stride` floats apart;
    /// panics if a slice is too short for 8 rows of 8 floats.
    fn transpose_8x8(self, from: [&[f32]; 8], to: &mut [f32], stride: usize);

    /// The sum of all lanes: the two halves are added, then the halves of that sum, and so on.
    fn sum(self, a: Self::F32) -> f32;

    /// The largest lane.
    fn max_lane(self, a: Self::F32) -> f32;

    /// Like [`Simd::store`], to bytes. Every lane must hold an integer from 0 to 255.
    fn store_bytes(self, to: &mut [u8], vector: Self::F32);

    /// Like [`Simd::store_first`], to bytes. Every lane must hold an integer from 0 to 255.
    fn store_bytes_first(self, to: &mut [u8], vector: Self::F32);

    /// Prefetches `to` for writing; two vectors will be stored there.
    fn prepare_store(self, to: &mut [f32]);

    /// Prefetches the cache line of any address, even an invalid one.
    fn prefetch<T>(self, address: *const T);

    /// Like [`Simd::prefetch`], but only into the level 2 cache.
    fn prefetch_to_l2<T>(self, address: *const T);
}

/// Work that is written once and compiled for every instruction set.
pub(super) trait Vectorized {
    type Output;

    /// Must be `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

impl Kernels {
    /// Runs `work`, compiled for the instruction set of these kernels.
    #[inline]
    pub(super) fn dispatch<W: Vectorized>(self, work: W) -> W::Output {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(token) = avx512::Avx512::new(self) {
                return token.dispatch(work);
            }
            if let Some(token) = avx2::Avx2::new(self) {
                return token.dispatch(work);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(token) = neon::Neon::new(self) {
            return token.dispatch(work);
        }
        work.run(plain::Plain)
    }
}
