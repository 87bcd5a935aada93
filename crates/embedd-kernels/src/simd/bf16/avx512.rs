//! Vectors of 16 floats and 32 bfloat16.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Bf16, CHANNELS, COLUMNS, rounded_scale};
use crate::simd::Simd;
use crate::simd::avx512::Avx512;
use crate::{InstructionSet, Kernels};

/// Proof that this CPU supports [`InstructionSet::EmulatedAmxBf16`], which [`InstructionSet::AmxBf16`] includes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512Bf16(Avx512);

const LANES: usize = 16;

/// 2^15. With a byte `u` as its second byte, this float becomes `2^15 + u`.
const BYTE_AND: f32 = 32768.0;
/// What is subtracted from `2^15 + u` for the signed integer `u - 128`.
const OFFSET: f32 = BYTE_AND + 128.0;

/// The second byte of every lane.
const SECOND_BYTES: u64 = 0x2222_2222_2222_2222;

/// For the two pairs of channels, and for the two halves of the columns: which byte goes to which lane.
static LANE_BYTES: [Indices; 4] = [Indices::of(0, 0), Indices::of(0, 1), Indices::of(1, 0), Indices::of(1, 1)];

#[repr(C, align(64))]
struct Indices([u8; 64]);

impl Indices {
    /// Lanes for the two channels of `pair`, of each column of `half`.
    const fn of(pair: usize, half: usize) -> Self {
        let mut bytes = [0; 64];
        let mut lane = 0;
        while lane < LANES {
            let column = half * COLUMNS / 2 + lane / 2;
            bytes[lane * 4 + 1] = (column * CHANNELS + pair * 2 + lane % 2) as u8;
            lane += 1;
        }
        Self(bytes)
    }
}

/// For the permutation of words that interleaves the halves of a vector.
static INTERLEAVED: Words = {
    let mut words = [0; 32];
    let mut lane = 0;
    while lane < LANES {
        words[2 * lane] = lane as u16;
        words[2 * lane + 1] = (LANES + lane) as u16;
        lane += 1;
    }
    Words(words)
};

#[repr(C, align(64))]
struct Words([u16; 32]);

/// For each half of the columns, every scale twice; and minus [`OFFSET`] times that.
#[derive(Clone, Copy)]
pub(crate) struct Scales {
    scales: [__m512; 2],
    offsets: [__m512; 2],
}

impl Avx512Bf16 {
    #[inline(always)]
    pub(crate) fn new(kernels: Kernels) -> Option<Self> {
        match kernels.instruction_set() {
            InstructionSet::AmxBf16 | InstructionSet::EmulatedAmxBf16 => Avx512::new(kernels).map(Self),
            _ => None,
        }
    }
}

impl Bf16 for Avx512Bf16 {
    type Simd = Avx512;
    type Scales = Scales;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn round(self, vector: __m512) -> __m512 {
        // SAFETY: the token proves that this CPU supports the instructions; they access no memory.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(vector));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(rounded)))
        }
    }

    #[inline(always)]
    fn store(self, to: &mut [u16], vector: __m512) {
        let to = &mut to[..LANES];
        // SAFETY: there is room for 16 numbers, as just checked; the token proves that this CPU supports the instructions.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(vector));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), rounded);
        }
    }

    #[inline(always)]
    fn store_pairs(self, to: &mut [u16], even: __m512, odd: __m512) {
        let to = &mut to[..2 * LANES];
        // SAFETY: there is room for 32 numbers, as just checked; the token proves that this CPU supports the instructions.
        unsafe {
            let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
            let indices = _mm512_load_si512(INTERLEAVED.0.as_ptr().cast());
            _mm512_storeu_si512(to.as_mut_ptr().cast(), _mm512_permutexvar_epi16(indices, halves));
        }
    }

    #[inline(always)]
    fn scales(self, scales: &[f32]) -> Scales {
        let s = self.0;
        let mut rounded = [0.0; COLUMNS];
        for (to, &scale) in rounded.iter_mut().zip(&scales[..COLUMNS]) {
            *to = rounded_scale(scale);
        }
        let mut twice = [0.0; 2 * COLUMNS];
        for (to, scale) in twice.chunks_exact_mut(2).zip(rounded) {
            to.fill(scale);
        }
        let scales = [s.load(&twice), s.load(&twice[COLUMNS..])];
        let offset = s.splat(-OFFSET);
        Scales { scales, offsets: [s.mul(scales[0], offset), s.mul(scales[1], offset)] }
    }

    /// `scale * (2^15 + u) - scale * (2^15 + 128)` is exact: `2^15 + 128` is a multiple of 128 with 9 significant bits, so
    /// it needs no rounding after the multiplication by a rounded scale.
    #[inline(always)]
    fn widen(self, weights: &[i8], Scales { scales, offsets }: Scales, to: &mut [u16]) {
        let weights = &weights[..COLUMNS * CHANNELS];
        let to = &mut to[..COLUMNS * CHANNELS];
        // SAFETY: there are 64 weights, and there is room for 64 numbers, as just checked; the token proves that this CPU
        // supports the instructions.
        unsafe {
            let signed = _mm512_loadu_si512(weights.as_ptr().cast());
            let bytes = _mm512_xor_si512(signed, _mm512_set1_epi8(-128));
            for pair in 0..2 {
                let mut products = [_mm512_setzero_ps(); 2];
                for half in 0..2 {
                    let indices = _mm512_load_si512(LANE_BYTES[2 * pair + half].0.as_ptr().cast());
                    let above = _mm512_castps_si512(_mm512_set1_ps(BYTE_AND));
                    let floats = _mm512_mask_permutexvar_epi8(above, SECOND_BYTES, indices, bytes);
                    products[half] = _mm512_fmadd_ps(_mm512_castsi512_ps(floats), scales[half], offsets[half]);
                }
                let rounded = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(products[1], products[0]));
                _mm512_storeu_si512(to[pair * 2 * COLUMNS..].as_mut_ptr().cast(), rounded);
            }
        }
    }
}
