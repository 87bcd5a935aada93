//! Dot products of NEON's extensions. In assembly, because their intrinsics are not stable yet.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::ProductWork;
use super::dot::Dot;
use crate::simd::neon::Neon;
use crate::{InstructionSet, Kernels};

/// Proof that this CPU supports [`InstructionSet::NeonDotprod`], whose products are `SIGNED`, or else
/// [`InstructionSet::NeonI8mm`].
#[derive(Clone, Copy)]
pub(super) struct NeonDot<const SIGNED: bool>(Neon);

/// Runs `work`, compiled for I8MM. Panics if `kernels` are not those of this set.
#[inline]
pub(super) fn dispatch_i8mm<W: ProductWork>(kernels: Kernels, work: W) -> W::Output {
    #[target_feature(enable = "neon,i8mm")]
    fn compiled<W: ProductWork>(token: NeonDot<false>, work: W) -> W::Output {
        work.run(token)
    }
    assert_eq!(kernels.instruction_set(), InstructionSet::NeonI8mm);
    let token = NeonDot(Neon::new(kernels).expect("kernels of NEON"));
    // SAFETY: the kernels prove that this CPU supports these features.
    unsafe { compiled(token, work) }
}

/// Runs `work`, compiled for dot products. Panics if `kernels` are not those of this set.
#[inline]
pub(super) fn dispatch_dotprod<W: ProductWork>(kernels: Kernels, work: W) -> W::Output {
    #[target_feature(enable = "neon,dotprod")]
    fn compiled<W: ProductWork>(token: NeonDot<true>, work: W) -> W::Output {
        work.run(token)
    }
    assert_eq!(kernels.instruction_set(), InstructionSet::NeonDotprod);
    let token = NeonDot(Neon::new(kernels).expect("kernels of NEON"));
    // SAFETY: the kernels prove that this CPU supports these features.
    unsafe { compiled(token, work) }
}

impl<const SIGNED: bool> NeonDot<SIGNED> {
    /// Adds the products of four bytes, repeated, and four weights for each column.
    #[inline(always)]
    fn dot(self, mut sums: [int32x4_t; 2], quad: uint8x16_t, weights: [int8x16_t; 2]) -> [int32x4_t; 2] {
        for half in 0..2 {
            // SAFETY: the token proves that this CPU supports the instruction, which accesses no memory.
            unsafe {
                if SIGNED {
                    asm!(
                        "sdot {sums:v}.4s, {quad:v}.16b, {weights:v}.16b",
                        sums = inout(vreg) sums[half], quad = in(vreg) quad, weights = in(vreg) weights[half],
                        options(pure, nomem, nostack, preserves_flags),
                    );
                } else {
                    asm!(
                        "usdot {sums:v}.4s, {quad:v}.16b, {weights:v}.16b",
                        sums = inout(vreg) sums[half], quad = in(vreg) quad, weights = in(vreg) weights[half],
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
            }
        }
        sums
    }
}

impl<const SIGNED: bool> Dot for NeonDot<SIGNED> {
    type Floats = Neon;
    /// Sums of 8 columns, in two registers.
    type Sums = [int32x4_t; 2];
    /// Weights of 8 columns, in two registers.
    type Weights = [int8x16_t; 2];

    /// 6 rows of 4 registers of sums leave 8 of 32 registers for the factors; signed products need 4 for the sums of
    /// the weights.
    const MAX_ROWS: usize = if SIGNED { 5 } else { 6 };

    const PARTS: usize = 1;

    const SIGNED: bool = SIGNED;

    #[inline(always)]
    fn floats(self) -> Neon {
        self.0
    }

    #[inline(always)]
    fn zero(self) -> Self::Sums {
        // SAFETY: the token proves that this CPU supports the instruction, which accesses no memory.
        [unsafe { vdupq_n_s32(0) }; 2]
    }

    #[inline(always)]
    unsafe fn load(self, weights: *const i8, _part: usize) -> Self::Weights {
        // SAFETY: by the caller's guarantee; the token proves that this CPU supports the instructions.
        unsafe { [vld1q_s8(weights), vld1q_s8(weights.add(16))] }
    }

    #[inline(always)]
    unsafe fn add_products(
        self,
        sums: &mut [Self::Sums; 2],
        quad: *const u8,
        _part: usize,
        weights: [Self::Weights; 2],
    ) {
        // SAFETY: by the caller's guarantee; the token proves that this CPU supports the instructions.
        let quad = unsafe {
            let quad = vreinterpretq_u8_u32(vdupq_n_u32(quad.cast::<u32>().read_unaligned()));
            // As signed bytes: minus 128.
            if SIGNED { veorq_u8(quad, vdupq_n_u8(128)) } else { quad }
        };
        sums[0] = self.dot(sums[0], quad, weights[0]);
        sums[1] = self.dot(sums[1], quad, weights[1]);
    }

    #[inline(always)]
    fn times_256(self, [low, high]: Self::Sums) -> Self::Sums {
        // SAFETY: the token proves that this CPU supports the instructions; they access no memory.
        unsafe { [vshlq_n_s32::<8>(low), vshlq_n_s32::<8>(high)] }
    }

    #[inline(always)]
    fn add_weights(self, sums: Self::Sums, weights: Self::Weights) -> Self::Sums {
        // SAFETY: the token proves that this CPU supports the instruction, which accesses no memory.
        self.dot(sums, unsafe { vdupq_n_u8(1) }, weights)
    }

    #[inline(always)]
    fn add_128_times(self, mut sums: Self::Sums, weight_sums: Self::Sums) -> Self::Sums {
        for half in 0..2 {
            // SAFETY: the token proves that this CPU supports the instructions; they access no memory.
            sums[half] = unsafe { vaddq_s32(sums[half], vshlq_n_s32::<7>(weight_sums[half])) };
        }
        sums
    }

    #[inline(always)]
    fn to_floats(self, [low, high]: Self::Sums) -> [float32x4_t; 2] {
        // SAFETY: the token proves that this CPU supports the instructions; they access no memory.
        unsafe { [vcvtq_f32_s32(low), vcvtq_f32_s32(high)] }
    }
}
