//! Vectors of 16 floats.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::{Ahead, PANEL, QUAD, Simd, Vectorized, products_are_within};
use crate::{InstructionSet, Kernels};

/// Proof that this CPU supports [`InstructionSet::Avx512Vnni`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

const LANES: usize = 16;

/// The mask of the first `count` lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    if count >= LANES { !0 } else { (1 << count) - 1 }
}

impl Avx512 {
    /// A token, if `kernels` are those of this set.
    #[inline(always)]
    pub(crate) fn new(kernels: Kernels) -> Option<Self> {
        (kernels.instruction_set() == InstructionSet::Avx512Vnni).then_some(Self(()))
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

    /// 6 rows of 2 vectors of sums, as integers and as floats, leave 8 of 32 registers for the factors.
    const PRODUCT_ROWS: usize = 6;

    #[allow(clippy::needless_range_loop, reason = "parallel arrays; iterators would need closures around vectors")]
    #[inline(always)]
    fn byte_products<const ROWS: usize>(
        self,
        bytes: &[u8],
        stride: usize,
        weights: &[i8],
        high_quads: usize,
        quads: usize,
        ahead: Ahead<'_>,
    ) -> [[__m512; 2]; ROWS] {
        assert!(high_quads < quads && products_are_within::<Self, ROWS>(bytes, stride, weights, quads));
        let mut bytes = bytes.as_ptr();
        let mut weights = weights.as_ptr();
        // If there is nothing to prefetch, prefetch a cache line that is already loaded.
        let step = ahead.step;
        let other_line = step.saturating_sub(64);
        let mut ahead = if step == 0 { weights } else { ahead.bytes.as_ptr() };
        // SAFETY: all reads are within the slices, as just checked; prefetching any address is allowed and reads
        // nothing; the token proves that this CPU supports the instructions.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
            let high_end = weights.wrapping_add(high_quads * PANEL * QUAD);
            let end = weights.wrapping_add(quads * PANEL * QUAD);
            let mut part_end = if high_quads > 0 { high_end } else { end };
            loop {
                while weights < part_end {
                    _mm_prefetch::<_MM_HINT_T1>(ahead);
                    _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(other_line));
                    ahead = ahead.wrapping_add(step);
                    let first = _mm512_loadu_si512(weights.cast());
                    let second = _mm512_loadu_si512(weights.add(LANES * QUAD).cast());
                    for row in 0..ROWS {
                        let quad = _mm512_set1_epi32(bytes.add(row * stride).cast::<i32>().read_unaligned());
                        sums[row][0] = _mm512_dpbusd_epi32(sums[row][0], quad, first);
                        sums[row][1] = _mm512_dpbusd_epi32(sums[row][1], quad, second);
                    }
                    bytes = bytes.wrapping_add(QUAD);
                    weights = weights.wrapping_add(PANEL * QUAD);
                }
                if part_end == end {
                    break;
                }
                part_end = end;
                for row in 0..ROWS {
                    sums[row] = [_mm512_slli_epi32::<8>(sums[row][0]), _mm512_slli_epi32::<8>(sums[row][1])];
                }
            }
            let mut floats = [[_mm512_setzero_ps(); 2]; ROWS];
            for row in 0..ROWS {
                floats[row] = [_mm512_cvtepi32_ps(sums[row][0]), _mm512_cvtepi32_ps(sums[row][1])];
            }
            floats
        }
    }

    #[inline(always)]
    fn transpose_8x8(self, from: [&[f32]; 8], to: &mut [f32], stride: usize) {
        self.half().transpose_8x8(from, to, stride);
    }
}
