//! Products with AVX2, which has no dot products of bytes that cannot saturate.
//!
//! The instruction that multiplies unsigned by signed bytes adds two products in 16 bits, where `2 * 255 * 127` does not
//! fit. So bytes and weights are widened to 16 bits. Of every four, the first and third are one part, and the second and
//! fourth the other, because weights can be widened like this with shifts only.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;

use super::ProductWork;
use super::dot::Dot;
use crate::Kernels;
use crate::layout::QUAD;
use crate::simd::avx2::Avx2;
use crate::simd::pure;

/// Runs `work`, compiled for AVX2. Panics if `kernels` are those of a set that does not include it.
#[inline]
pub(super) fn dispatch<W: ProductWork>(kernels: Kernels, work: W) -> W::Output {
    #[target_feature(enable = "avx2,fma")]
    fn compiled<W: ProductWork>(token: Avx2, work: W) -> W::Output {
        work.run(token)
    }
    let token = Avx2::new(kernels).expect("kernels of AVX2");
    // SAFETY: the token proves that this CPU supports these features.
    unsafe { compiled(token, work) }
}

impl Dot for Avx2 {
    type Floats = Self;
    type Sums = __m256i;
    /// The weights of a part, as 16-bit integers.
    type Weights = __m256i;

    /// 6 rows of 2 vectors of sums leave 4 of 16 registers: for weights, for integers of a row, and for their products.
    const MAX_ROWS: usize = 6;

    const PARTS: usize = 2;

    #[inline(always)]
    fn floats(self) -> Self {
        self
    }

    pure! {
        fn zero() -> __m256i = _mm256_setzero_si256();
        fn times_256(sums: __m256i) -> __m256i = _mm256_slli_epi32::<8>(sums);
        fn to_floats(sums: __m256i) -> __m256 = _mm256_cvtepi32_ps(sums);
    }

    #[inline(always)]
    unsafe fn load(self, weights: *const i8, part: usize) -> __m256i {
        // SAFETY: by the caller's guarantee; the token proves that this CPU supports the instructions.
        unsafe { if part == 0 { first_and_third(weights) } else { second_and_fourth(weights) } }
    }

    #[inline(always)]
    unsafe fn add_products(self, sums: &mut [__m256i; 2], quad: *const u8, part: usize, weights: [__m256i; 2]) {
        // SAFETY: by the caller's guarantee; the token proves that this CPU supports the instructions.
        unsafe {
            if part == 0 { add_products::<0>(sums, quad, weights) } else { add_products::<4>(sums, quad, weights) }
        }
    }

    #[inline(always)]
    fn widen(self, memory: &mut [u8]) {
        let length = memory.len() / 2;
        // Writes never reach bytes that have not been read yet.
        let mut at = 0;
        while at + 16 <= length {
            let bytes = memory[length + at..][..16].as_ptr();
            // SAFETY: 16 bytes are readable, as just checked; the token proves that this CPU supports the instructions.
            let wide = unsafe { widen(bytes) };
            // SAFETY: as above, for 32 writable bytes.
            unsafe { _mm256_storeu_si256(memory[2 * at..][..32].as_mut_ptr().cast(), wide) };
            at += 16;
        }
        while at < length {
            let mut bytes = [0; 16];
            bytes[..QUAD].copy_from_slice(&memory[length + at..][..QUAD]);
            // SAFETY: as above.
            let wide = unsafe { _mm_cvtsi128_si64(_mm256_castsi256_si128(widen(bytes.as_ptr()))) };
            memory[2 * at..][..2 * QUAD].copy_from_slice(&wide.to_le_bytes());
            at += QUAD;
        }
    }
}

/// Widens 16 bytes.
///
/// # Safety
/// They must be readable.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn widen(bytes: *const u8) -> __m256i {
    const FIRST_AND_THIRD_FIRST: i32 = 0b11_01_10_00;
    // SAFETY: by the caller's guarantee.
    let wide = _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(bytes.cast()) });
    _mm256_shufflehi_epi16::<FIRST_AND_THIRD_FIRST>(_mm256_shufflelo_epi16::<FIRST_AND_THIRD_FIRST>(wide))
}

/// The products of the part that begins at byte `AT` of a quad. In assembly, because the compiler would add the products of
/// both parts before adding them to the sums, and would run out of registers.
///
/// # Safety
/// The quad must be readable.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn add_products<const AT: usize>(sums: &mut [__m256i; 2], quad: *const u8, weights: [__m256i; 2]) {
    // SAFETY: by the caller's guarantee.
    unsafe {
        asm!(
            "vpbroadcastd {integers}, [{quad} + {at}]",
            "vpmaddwd {products}, {integers}, {first}",
            "vpmaddwd {integers}, {integers}, {second}",
            "vpaddd {first_sums}, {first_sums}, {products}",
            "vpaddd {second_sums}, {second_sums}, {integers}",
            quad = in(reg) quad,
            at = const AT,
            first = in(ymm_reg) weights[0],
            second = in(ymm_reg) weights[1],
            first_sums = inout(ymm_reg) sums[0],
            second_sums = inout(ymm_reg) sums[1],
            integers = out(ymm_reg) _,
            products = out(ymm_reg) _,
            options(readonly, nostack, preserves_flags),
        );
    }
}

/// # Safety
/// 32 bytes must be readable.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn first_and_third(weights: *const i8) -> __m256i {
    // SAFETY: by the caller's guarantee.
    let weights = unsafe { _mm256_loadu_si256(weights.cast()) };
    _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(weights))
}

/// In assembly, because the compiler would keep the weights of [`first_and_third`] in a register.
///
/// # Safety
/// 32 bytes must be readable.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn second_and_fourth(weights: *const i8) -> __m256i {
    let wide;
    // SAFETY: by the caller's guarantee.
    unsafe {
        asm!(
            "vmovdqu {wide}, [{weights}]",
            "vpsraw {wide}, {wide}, 8",
            weights = in(reg) weights,
            wide = out(ymm_reg) wide,
            options(readonly, nostack, preserves_flags),
        );
    }
    wide
}
