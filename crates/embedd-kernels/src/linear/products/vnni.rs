//! Dot products of AVX512-VNNI and AVX-VNNI.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::ProductWork;
use super::dot::Dot;
use crate::Kernels;
use crate::simd::avx2::Avx2;
use crate::simd::avx512::Avx512;
use crate::simd::pure;

/// Proof that this CPU supports [`crate::InstructionSet::Avx512Vnni`].
#[derive(Clone, Copy)]
pub(super) struct Vnni512(Avx512);

/// Proof that this CPU supports [`crate::InstructionSet::AvxVnni`].
#[derive(Clone, Copy)]
pub(super) struct Vnni256(Avx2);

impl Vnni512 {
    /// Panics if `kernels` are not those of this set.
    #[inline]
    pub(super) fn dispatch<W: ProductWork>(kernels: Kernels, work: W) -> W::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
        fn compiled<W: ProductWork>(token: Vnni512, work: W) -> W::Output {
            work.run(token)
        }
        let token = Self(Avx512::new(kernels).expect("kernels of AVX512-VNNI"));
        // SAFETY: the token proves that this CPU supports these features (and AVX-512 includes AVX2).
        unsafe { compiled(token, work) }
    }
}

impl Vnni256 {
    /// Panics if `kernels` are not those of this set.
    #[inline]
    pub(super) fn dispatch<W: ProductWork>(kernels: Kernels, work: W) -> W::Output {
        #[target_feature(enable = "avxvnni,avx2,fma")]
        fn compiled<W: ProductWork>(token: Vnni256, work: W) -> W::Output {
            work.run(token)
        }
        assert_eq!(kernels.instruction_set(), crate::InstructionSet::AvxVnni);
        let token = Self(Avx2::new(kernels).expect("kernels of AVX-VNNI, which include AVX2"));
        // SAFETY: the kernels prove that this CPU supports these features.
        unsafe { compiled(token, work) }
    }
}

impl Dot for Vnni512 {
    type Floats = Avx512;
    type Sums = __m512i;
    type Weights = __m512i;

    /// 6 rows of 2 vectors of sums, as integers and as floats, leave 8 of 32 registers for the factors.
    const MAX_ROWS: usize = 6;

    const PARTS: usize = 1;

    #[inline(always)]
    fn floats(self) -> Avx512 {
        self.0
    }

    pure! {
        fn zero() -> __m512i = _mm512_setzero_si512();
        fn times_256(sums: __m512i) -> __m512i = _mm512_slli_epi32::<8>(sums);
        fn to_floats(sums: __m512i) -> __m512 = _mm512_cvtepi32_ps(sums);
    }

    #[inline(always)]
    unsafe fn load(self, weights: *const i8, _part: usize) -> __m512i {
        // SAFETY: by the caller's guarantee; the token proves that this CPU supports the instructions.
        unsafe { _mm512_loadu_si512(weights.cast()) }
    }

    #[inline(always)]
    unsafe fn add_products(self, sums: &mut [__m512i; 2], quad: *const u8, _part: usize, weights: [__m512i; 2]) {
        // SAFETY: as above.
        unsafe {
            let quad = _mm512_set1_epi32(quad.cast::<i32>().read_unaligned());
            sums[0] = _mm512_dpbusd_epi32(sums[0], quad, weights[0]);
            sums[1] = _mm512_dpbusd_epi32(sums[1], quad, weights[1]);
        }
    }
}

impl Dot for Vnni256 {
    type Floats = Avx2;
    type Sums = __m256i;
    type Weights = __m256i;

    /// 5 rows of 2 vectors of sums leave 6 of 16 registers for the factors.
    const MAX_ROWS: usize = 5;

    const PARTS: usize = 1;

    #[inline(always)]
    fn floats(self) -> Avx2 {
        self.0
    }

    pure! {
        fn zero() -> __m256i = _mm256_setzero_si256();
        fn times_256(sums: __m256i) -> __m256i = _mm256_slli_epi32::<8>(sums);
        fn to_floats(sums: __m256i) -> __m256 = _mm256_cvtepi32_ps(sums);
    }

    #[inline(always)]
    unsafe fn load(self, weights: *const i8, _part: usize) -> __m256i {
        // SAFETY: by the caller's guarantee; the token proves that this CPU supports the instructions.
        unsafe { _mm256_loadu_si256(weights.cast()) }
    }

    #[inline(always)]
    unsafe fn add_products(self, sums: &mut [__m256i; 2], quad: *const u8, _part: usize, weights: [__m256i; 2]) {
        // SAFETY: as above.
        unsafe {
            let quad = _mm256_set1_epi32(quad.cast::<i32>().read_unaligned());
            sums[0] = _mm256_dpbusd_avx_epi32(sums[0], quad, weights[0]);
            sums[1] = _mm256_dpbusd_avx_epi32(sums[1], quad, weights[1]);
        }
    }
}
