//! Vectors of 8 floats.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::avx512::Avx512;
use super::{Ahead, PANEL, QUAD, Simd, Vectorized, products_are_within};
use crate::kernels::{InstructionSet, Kernels};

/// This CPU has what [`InstructionSet::Avx2`] needs.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Avx2(());

const LANES: usize = 8;

/// From place `8 - n` on: the mask of the first `n` lanes.
static MASKS: [i32; 2 * LANES] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Avx2 {
    /// Where `kernels` are those of this set.
    #[inline(always)]
    pub(in crate::kernels) fn new(kernels: Kernels) -> Option<Self> {
        (kernels.instruction_set() == InstructionSet::Avx2).then_some(Self(()))
    }

    /// Runs `work` compiled for this set.
    #[inline]
    pub(in crate::kernels) fn vectorize<W: Vectorized>(self, work: W) -> W::Output {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<W: Vectorized>(token: Avx2, work: W) -> W::Output {
            work.run(token)
        }
        // SAFETY: the token proves that this CPU has these features.
        unsafe { compiled(self, work) }
    }

    /// A CPU with AVX-512 has this set too.
    #[inline(always)]
    pub(super) fn of(_: Avx512) -> Self {
        Self(())
    }

    /// The mask of the first `count` lanes.
    #[inline(always)]
    fn first(self, count: usize) -> __m256i {
        let masks = &MASKS[LANES - count.min(LANES)..][..LANES];
        // SAFETY: there are 8 integers, as just checked; the token proves the instructions.
        unsafe { _mm256_loadu_si256(masks.as_ptr().cast()) }
    }
}

/// A safe method by intrinsics that touch no memory.
macro_rules! pure {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $output:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: $type),*) -> $output {
            // SAFETY: the token proves that this CPU has the instructions; no memory is touched.
            unsafe { $body }
        }
    )*};
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
        fn greatest(a: __m256) -> f32 = {
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
        };
    }

    #[inline(always)]
    fn first_or(self, vector: __m256, count: usize, others: __m256) -> __m256 {
        let mask = self.first(count);
        // SAFETY: the token proves that this CPU has the instructions; no memory is touched.
        unsafe { _mm256_blendv_ps(others, vector, _mm256_castsi256_ps(mask)) }
    }

    #[inline(always)]
    fn load(self, values: &[f32]) -> __m256 {
        let values = &values[..LANES];
        // SAFETY: there are 8 floats, as just checked; the token proves the instructions.
        unsafe { _mm256_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    fn load_first(self, values: &[f32]) -> __m256 {
        let mask = self.first(values.len());
        // SAFETY: the mask keeps the load within `values`; the token proves the instructions.
        unsafe { _mm256_maskload_ps(values.as_ptr(), mask) }
    }

    #[inline(always)]
    fn load_bytes(self, values: &[i8]) -> __m256 {
        let values = &values[..LANES];
        // SAFETY: there are 8 bytes, as just checked; the token proves the instructions.
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
        // SAFETY: there are 8 floats, as just checked; the token proves the instructions.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), vector) }
    }

    #[inline(always)]
    fn store_first(self, to: &mut [f32], vector: __m256) {
        let mask = self.first(to.len());
        // SAFETY: the mask keeps the store within `to`; the token proves the instructions.
        unsafe { _mm256_maskstore_ps(to.as_mut_ptr(), mask, vector) }
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8], vector: __m256) {
        let to = &mut to[..LANES];
        // SAFETY: there are 8 bytes, as just checked; the token proves the instructions.
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

    /// 3 rows of 4 vectors of sums leave 4 of 16 registers for what is multiplied.
    const PRODUCT_ROWS: usize = 3;

    /// Bytes and weights are widened to 16 bits: the instruction that multiplies unsigned by signed bytes adds two
    /// products in 16 bits, which `2 x 255 x 127` does not fit.
    #[allow(clippy::needless_range_loop, reason = "arrays side by side; iterators would need closures around vectors")]
    #[inline(always)]
    fn byte_products<const ROWS: usize>(
        self,
        bytes: &[u8],
        stride: usize,
        weights: &[i8],
        high_quads: usize,
        quads: usize,
        _ahead: Ahead<'_>,
    ) -> [[__m256; 2]; ROWS] {
        assert!(high_quads < quads && products_are_within::<Self, ROWS>(bytes, stride, weights, quads));
        let (bytes, weights) = (bytes.as_ptr(), weights.as_ptr());
        // SAFETY: all that is read lies within the slices, as just checked; the token proves the instructions.
        unsafe {
            // Of each column two sums: over the first two and over the last two of every four bytes.
            let mut sums = [[_mm256_setzero_si256(); 4]; ROWS];
            for quad in 0..quads {
                if quad == high_quads && quad > 0 {
                    for sum in sums.as_flattened_mut() {
                        *sum = _mm256_slli_epi32::<8>(*sum);
                    }
                }
                let weights = weights.add(quad * PANEL * QUAD);
                let mut wide = [_mm256_setzero_si256(); ROWS];
                for row in 0..ROWS {
                    let quad = bytes.add(row * stride + quad * QUAD).cast::<i32>().read_unaligned();
                    wide[row] = _mm256_cvtepu8_epi16(_mm_set1_epi32(quad));
                }
                for part in 0..4 {
                    let weights = _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.add(part * 2 * LANES).cast()));
                    for row in 0..ROWS {
                        let products = _mm256_madd_epi16(wide[row], weights);
                        sums[row][part] = _mm256_add_epi32(sums[row][part], products);
                    }
                }
            }
            let mut floats = [[_mm256_setzero_ps(); 2]; ROWS];
            for row in 0..ROWS {
                for vector in 0..2 {
                    // Adding neighbours within each half gives the columns 0 1 4 5 2 3 6 7.
                    let pairs = _mm256_hadd_epi32(sums[row][2 * vector], sums[row][2 * vector + 1]);
                    floats[row][vector] = _mm256_cvtepi32_ps(_mm256_permute4x64_epi64::<0b11_01_10_00>(pairs));
                }
            }
            floats
        }
    }

    #[inline(always)]
    fn transpose_8x8(self, from: [&[f32]; 8], to: &mut [f32], stride: usize) {
        let mut rows = [self.splat(0.0); 8];
        for (row, from) in rows.iter_mut().zip(from) {
            *row = self.load(from);
        }
        // SAFETY: the token proves that this CPU has the instructions; no memory is touched.
        let columns = unsafe { transpose(rows) };
        for (column, values) in columns.into_iter().enumerate() {
            self.store(&mut to[column * stride..], values);
        }
    }
}

/// Pairs of rows are interleaved, then pairs of pairs, then the halves put together.
///
/// # Safety
/// This CPU has AVX2.
#[inline(always)]
unsafe fn transpose([a, b, c, d, e, f, g, h]: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: as the caller vouches; no memory is touched.
    unsafe {
        let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        let (ef_low, ef_high) = (_mm256_unpacklo_ps(e, f), _mm256_unpackhi_ps(e, f));
        let (gh_low, gh_high) = (_mm256_unpacklo_ps(g, h), _mm256_unpackhi_ps(g, h));
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
