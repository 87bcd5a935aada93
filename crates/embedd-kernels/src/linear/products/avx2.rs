//! Products with AVX2, which has no dot products of bytes that cannot saturate.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::{ByteProducts, Operands, ProductWork};
use crate::Kernels;
use crate::layout::{PANEL, QUAD};
use crate::simd::Simd;
use crate::simd::avx2::Avx2;

const LANES: usize = Avx2::LANES;

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

impl ByteProducts for Avx2 {
    type Floats = Self;

    /// 5 rows of 2 vectors of sums leave 6 of 16 registers for the factors.
    const MAX_ROWS: usize = 5;

    #[inline(always)]
    fn floats(self) -> Self {
        self
    }

    /// Bytes and weights are widened to 16 bits, because the instruction that multiplies unsigned by signed bytes adds
    /// two products in 16 bits, where `2 * 255 * 127` does not fit. Of every four bytes, the first and third form one
    /// pair of 16-bit integers, and the second and fourth form another. This needs only shifts instead of permutations,
    /// and only one sum per column.
    #[allow(clippy::needless_range_loop, reason = "parallel arrays; iterators would need closures around vectors")]
    #[inline(always)]
    fn byte_products<const ROWS: usize>(self, operands: Operands<'_>) -> [[__m256; 2]; ROWS] {
        operands.check::<Self, ROWS>();
        let Operands { bytes, stride, weights, quads, high_quads, ahead } = operands;
        // If there is nothing to prefetch, prefetch a cache line that is already loaded.
        let step = ahead.step;
        let other_line = step.saturating_sub(64);
        let mut ahead = if step == 0 { weights.as_ptr() } else { ahead.bytes.as_ptr() };
        let mut pairs = [const { [[MaybeUninit::uninit(); WIDENED]; 2] }; ROWS];
        // SAFETY: all reads are within the slices, as just checked; prefetching any address is allowed and reads
        // nothing; the token proves that this CPU supports the instructions.
        unsafe {
            let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
            let mut quad = 0;
            while quad < quads {
                if quad == high_quads && quad > 0 {
                    for row in 0..ROWS {
                        sums[row] = [_mm256_slli_epi32::<8>(sums[row][0]), _mm256_slli_epi32::<8>(sums[row][1])];
                    }
                }
                let part_end = if quad < high_quads { high_quads } else { quads };
                let count = (part_end - quad).min(WIDENED);
                for row in 0..ROWS {
                    widen(&bytes[row * stride + quad * QUAD..][..count * QUAD], &mut pairs[row]);
                }
                for place in 0..count {
                    _mm_prefetch::<_MM_HINT_T1>(ahead);
                    _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(other_line));
                    ahead = ahead.wrapping_add(step);
                    add_products(&mut sums, &pairs, place, weights.as_ptr().add((quad + place) * PANEL * QUAD));
                }
                quad += count;
            }
            let mut floats = [[_mm256_setzero_ps(); 2]; ROWS];
            for row in 0..ROWS {
                floats[row] = [_mm256_cvtepi32_ps(sums[row][0]), _mm256_cvtepi32_ps(sums[row][1])];
            }
            floats
        }
    }
}

/// The number of quads of bytes that are widened at a time.
const WIDENED: usize = 32;

/// For each row and each of 16 columns, adds the products of four widened bytes and four weights.
///
/// # Safety
/// This CPU must support AVX2, the pairs at `place` must be initialized, and `weights` must be readable for 64 bytes.
#[allow(clippy::needless_range_loop, reason = "parallel arrays; iterators would need closures around vectors")]
#[inline(always)]
unsafe fn add_products<const ROWS: usize>(
    sums: &mut [[__m256i; 2]; ROWS],
    pairs: &[[[MaybeUninit<i32>; WIDENED]; 2]; ROWS],
    place: usize,
    weights: *const i8,
) {
    // SAFETY: by the caller's guarantee.
    unsafe {
        let first = _mm256_loadu_si256(weights.cast());
        let second = _mm256_loadu_si256(weights.add(LANES * QUAD).cast());
        let odd = [_mm256_srai_epi16::<8>(first), _mm256_srai_epi16::<8>(second)];
        let even = [
            _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(first)),
            _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(second)),
        ];
        for row in 0..ROWS {
            let pair = _mm256_set1_epi32(pairs[row][0][place].assume_init());
            sums[row][0] = _mm256_add_epi32(sums[row][0], _mm256_madd_epi16(pair, even[0]));
            sums[row][1] = _mm256_add_epi32(sums[row][1], _mm256_madd_epi16(pair, even[1]));
            let pair = _mm256_set1_epi32(pairs[row][1][place].assume_init());
            sums[row][0] = _mm256_add_epi32(sums[row][0], _mm256_madd_epi16(pair, odd[0]));
            sums[row][1] = _mm256_add_epi32(sums[row][1], _mm256_madd_epi16(pair, odd[1]));
        }
    }
}

/// Of every four bytes, writes the first and third to `pairs[0]` as two 16-bit integers, and the second and fourth to
/// `pairs[1]`.
///
/// # Safety
/// This CPU must support AVX2.
#[inline(always)]
unsafe fn widen(bytes: &[u8], pairs: &mut [[MaybeUninit<i32>; WIDENED]; 2]) {
    const LOW_BYTES: i32 = 0x00ff_00ff;
    let [evens, odds] = pairs;
    let (vectors, rest) = bytes.as_chunks::<{ LANES * QUAD }>();
    let (even_vectors, _) = evens.as_chunks_mut::<LANES>();
    let (odd_vectors, _) = odds.as_chunks_mut::<LANES>();
    for ((bytes, evens), odds) in vectors.iter().zip(even_vectors).zip(odd_vectors) {
        // SAFETY: the types guarantee that 32 bytes can be read and 8 integers written, twice; the caller guarantees
        // that this CPU supports the instructions.
        unsafe {
            let bytes = _mm256_loadu_si256(bytes.as_ptr().cast());
            let even = _mm256_and_si256(bytes, _mm256_set1_epi32(LOW_BYTES));
            _mm256_storeu_si256(evens.as_mut_ptr().cast(), even);
            _mm256_storeu_si256(odds.as_mut_ptr().cast(), _mm256_srli_epi16::<8>(bytes));
        }
    }
    let done = vectors.len() * LANES;
    for (place, quad) in rest.as_chunks::<QUAD>().0.iter().enumerate() {
        let quad = i32::from_le_bytes(*quad);
        evens[done + place].write(quad & LOW_BYTES);
        odds[done + place].write(quad >> 8 & LOW_BYTES);
    }
}
