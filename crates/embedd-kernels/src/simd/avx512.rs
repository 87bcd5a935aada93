//! Vectors of 16 floats.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::{Simd, Vectorized};
use crate::{InstructionSet, Kernels};

/// Proof that this CPU supports [`InstructionSet::Avx512Vnni`], which the sets with AMX include.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

const LANES: usize = 16;

/// The mask of the first `count` lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    if count >= LANES { !0 } else { (1 << count) - 1 }
}

impl Avx512 {
    /// A token, if `kernels` are those of a set that includes these vectors.
    #[inline(always)]
    pub(crate) fn new(kernels: Kernels) -> Option<Self> {
        matches!(
            kernels.instruction_set(),
            InstructionSet::AmxBf16
                | InstructionSet::AmxInt8
                | InstructionSet::Avx512Vnni
                | InstructionSet::EmulatedAmxBf16
        )
        .then_some(Self(()))
    }

    /// Runs `work`, compiled for this set.
    #[inline]
    pub(crate) fn dispatch<W: Vectorized>(self, work: W) -> W::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
        fn compiled<W: Vectorized>(token: Avx512, work: W) -> W::Output {
            work.run(token)
        }
        // SAFETY: the token proves that this CPU supports these features (and AVX-512 includes AVX2).
        unsafe { compiled(self, work) }
    }

    pure! {
        fn halves(a: __m512) -> (__m256, __m256) =
            (_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
    }

    /// The token for vectors of half the size: a CPU with this set also supports AVX2.
    #[inline(always)]
    fn half(self) -> Avx2 {
        Avx2(())
    }
}

impl Simd for Avx512 {
    type F32 = __m512;

    const LANES: usize = LANES;
    const REGISTERS: usize = 32;

    pure! {
        fn splat(value: f32) -> __m512 = _mm512_set1_ps(value);
        fn first_or(vector: __m512, count: usize, others: __m512) -> __m512 =
            _mm512_mask_mov_ps(others, first(count), vector);
        fn add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        fn mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        fn min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        fn abs(a: __m512) -> __m512 = _mm512_abs_ps(a);
        fn round(a: __m512) -> __m512 =
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        fn scale_by_power(a: __m512, n: __m512) -> __m512 = _mm512_scalef_ps(a, n);
        fn select_less(a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 =
            _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), yes);
    }

    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        let halves = self.half();
        let (low, high) = self.halves(a);
        halves.sum(halves.add(low, high))
    }

    #[inline(always)]
    fn max_lane(self, a: __m512) -> f32 {
        let halves = self.half();
        let (low, high) = self.halves(a);
        halves.max_lane(halves.max(low, high))
    }

    #[inline(always)]
    fn load(self, values: &[f32]) -> __m512 {
        let values = &values[..LANES];
        // SAFETY: there are 16 floats, as just checked; the token proves that this CPU supports the instructions.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    fn load_first(self, values: &[f32]) -> __m512 {
        // SAFETY: the mask keeps the load within `values`; the token proves that this CPU supports the instructions.
        unsafe { _mm512_maskz_loadu_ps(first(values.len()), values.as_ptr()) }
    }

    #[inline(always)]
    fn load_bytes(self, values: &[i8]) -> __m512 {
        let values = &values[..LANES];
        // SAFETY: there are 16 bytes, as just checked; the token proves that this CPU supports the instructions.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(values.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn load_bytes_first(self, values: &[i8]) -> __m512 {
        // SAFETY: the mask keeps the load within `values`; the token proves that this CPU supports the instructions.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first(values.len()), values.as_ptr()))) }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32], vector: __m512) {
        let to = &mut to[..LANES];
        // SAFETY: there are 16 floats, as just checked; the token proves that this CPU supports the instructions.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), vector) }
    }

    #[inline(always)]
    fn store_first(self, to: &mut [f32], vector: __m512) {
        // SAFETY: the mask keeps the store within `to`; the token proves that this CPU supports the instructions.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), first(to.len()), vector) }
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8], vector: __m512) {
        self.store_bytes_first(&mut to[..LANES], vector);
    }

    #[inline(always)]
    fn store_bytes_first(self, to: &mut [u8], vector: __m512) {
        // SAFETY: the mask keeps the store within `to`; the token proves that this CPU supports the instructions.
        unsafe {
            _mm512_mask_cvtusepi32_storeu_epi8(to.as_mut_ptr().cast(), first(to.len()), _mm512_cvtps_epi32(vector));
        }
    }

    #[inline(always)]
    fn prepare_store(self, to: &mut [f32]) {
        let first = to.as_ptr().cast::<i8>();
        // SAFETY: prefetching any address is allowed and reads nothing; the token proves that this CPU supports the
        // instruction.
        unsafe {
            _mm_prefetch::<_MM_HINT_ET0>(first);
            _mm_prefetch::<_MM_HINT_ET0>(first.wrapping_add(64));
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, address: *const T) {
        // SAFETY: a prefetch has no effect but on the caches, whatever the address; x86-64 includes it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    fn prefetch_to_l2<T>(self, address: *const T) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }

    #[inline(always)]
    fn transpose_8x8(self, from: [&[f32]; 8], to: &mut [f32], stride: usize) {
        self.half().transpose_8x8(from, to, stride);
    }
}
