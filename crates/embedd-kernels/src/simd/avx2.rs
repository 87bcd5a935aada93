//! Vectors of 8 floats.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Simd, Vectorized};
use crate::{InstructionSet, Kernels};

/// Proof that this CPU supports AVX2 and fused multiply-add.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(pub(super) ());

const LANES: usize = 8;

/// The 8 integers that begin at index `8 - n` are the mask of the first `n` lanes.
static MASKS: [i32; 2 * LANES] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Avx2 {
    /// A token, if `kernels` are those of a set with vectors of 8 floats.
    #[inline(always)]
    pub(crate) fn new(kernels: Kernels) -> Option<Self> {
        matches!(kernels.instruction_set(), InstructionSet::AvxVnni | InstructionSet::Avx2).then_some(Self(()))
    }

    /// Runs `work`, compiled for this set.
    #[inline]
    pub(crate) fn dispatch<W: Vectorized>(self, work: W) -> W::Output {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<W: Vectorized>(token: Avx2, work: W) -> W::Output {
            work.run(token)
        }
        // SAFETY: the token proves that this CPU supports these features.
        unsafe { compiled(self, work) }
    }

    /// The mask of the first `count` lanes.
    #[inline(always)]
    fn first(self, count: usize) -> __m256i {
        let masks = &MASKS[LANES - count.min(LANES)..][..LANES];
        // SAFETY: there are 8 integers, as just checked; the token proves that this CPU supports the instructions.
        unsafe { _mm256_loadu_si256(masks.as_ptr().cast()) }
    }
}

impl Simd for Avx2 {
    type F32 = __m256;

    const LANES: usize = LANES;
    const REGISTERS: usize = 16;

    pure! {
        fn splat(value: f32) -> __m256 = _mm256_set1_ps(value);
        fn add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        fn sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        fn mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fn div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fn max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        fn min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        fn abs(a: __m256) -> __m256 = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
        fn round(a: __m256) -> __m256 = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        fn scale_by_power(a: __m256, n: __m256) -> __m256 = {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        };
        fn select_less(a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 =
            _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b));
        fn sum(a: __m256) -> f32 = {
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
        };
        fn max_lane(a: __m256) -> f32 = {
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
        };
    }

    #[inline(always)]
    fn first_or(self, vector: __m256, count: usize, others: __m256) -> __m256 {
        let mask = self.first(count);
        // SAFETY: the token proves that this CPU supports the instructions; they access no memory.
        unsafe { _mm256_blendv_ps(others, vector, _mm256_castsi256_ps(mask)) }
    }

    #[inline(always)]
    fn load(self, values: &[f32]) -> __m256 {
        let values = &values[..LANES];
        // SAFETY: there are 8 floats, as just checked; the token proves that this CPU supports the instructions.
        unsafe { _mm256_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    fn load_first(self, values: &[f32]) -> __m256 {
        let mask = self.first(values.len());
        // SAFETY: the mask keeps the load within `values`; the token proves that this CPU supports the instructions.
        unsafe { _mm256_maskload_ps(values.as_ptr(), mask) }
    }

    #[inline(always)]
    fn load_bytes(self, values: &[i8]) -> __m256 {
        let values = &values[..LANES];
        // SAFETY: there are 8 bytes, as just checked; the token proves that this CPU supports the instructions.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(values.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn load_bytes_first(self, values: &[i8]) -> __m256 {
        let mut bytes = [0; LANES];
        let count = values.len().min(LANES);
        bytes[..count].copy_from_slice(&values[..count]);
        self.load_bytes(&bytes)
    }

    #[inline(always)]
    fn store(self, to: &mut [f32], vector: __m256) {
        let to = &mut to[..LANES];
        // SAFETY: there are 8 floats, as just checked; the token proves that this CPU supports the instructions.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), vector) }
    }

    #[inline(always)]
    fn store_first(self, to: &mut [f32], vector: __m256) {
        let mask = self.first(to.len());
        // SAFETY: the mask keeps the store within `to`; the token proves that this CPU supports the instructions.
        unsafe { _mm256_maskstore_ps(to.as_mut_ptr(), mask, vector) }
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8], vector: __m256) {
        let to = &mut to[..LANES];
        // SAFETY: there are 8 bytes, as just checked; the token proves that this CPU supports the instructions.
        unsafe {
            let integers = _mm256_cvtps_epi32(vector);
            let pairs = _mm_packus_epi32(_mm256_castsi256_si128(integers), _mm256_extracti128_si256::<1>(integers));
            _mm_storel_epi64(to.as_mut_ptr().cast(), _mm_packus_epi16(pairs, pairs));
        }
    }

    #[inline(always)]
    fn store_bytes_first(self, to: &mut [u8], vector: __m256) {
        let mut bytes = [0; LANES];
        self.store_bytes(&mut bytes, vector);
        let count = to.len().min(LANES);
        to[..count].copy_from_slice(&bytes[..count]);
    }

    #[inline(always)]
    fn prepare_store(self, _to: &mut [f32]) {}

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
        let mut rows = [self.splat(0.0); 8];
        for (row, from) in rows.iter_mut().zip(from) {
            *row = self.load(from);
        }
        // SAFETY: the token proves that this CPU supports the instructions; they access no memory.
        let columns = unsafe { transpose(rows) };
        for (column, values) in columns.into_iter().enumerate() {
            self.store(&mut to[column * stride..], values);
        }
    }
}

/// Transposes 8 rows: interleaves pairs of rows, then pairs of pairs, and then joins the halves.
///
/// # Safety
/// This CPU must support AVX2.
#[inline(always)]
unsafe fn transpose([a, b, c, d, e, f, g, h]: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: by the caller's guarantee; the instructions access no memory.
    unsafe {
        let ab_low = _mm256_unpacklo_ps(a, b);
        let ab_high = _mm256_unpackhi_ps(a, b);
        let cd_low = _mm256_unpacklo_ps(c, d);
        let cd_high = _mm256_unpackhi_ps(c, d);
        let ef_low = _mm256_unpacklo_ps(e, f);
        let ef_high = _mm256_unpackhi_ps(e, f);
        let gh_low = _mm256_unpacklo_ps(g, h);
        let gh_high = _mm256_unpackhi_ps(g, h);
        let first = [
            _mm256_shuffle_ps::<0b01_00_01_00>(ab_low, cd_low),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab_low, cd_low),
            _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
        ];
        let second = [
            _mm256_shuffle_ps::<0b01_00_01_00>(ef_low, gh_low),
            _mm256_shuffle_ps::<0b11_10_11_10>(ef_low, gh_low),
            _mm256_shuffle_ps::<0b01_00_01_00>(ef_high, gh_high),
            _mm256_shuffle_ps::<0b11_10_11_10>(ef_high, gh_high),
        ];
        let mut columns = [a; 8];
        for column in 0..4 {
            columns[column] = _mm256_permute2f128_ps::<0x20>(first[column], second[column]);
            columns[column + 4] = _mm256_permute2f128_ps::<0x31>(first[column], second[column]);
        }
        columns
    }
}
