//! Vectors of 8 floats in two registers of 4.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Simd, Vectorized};
use crate::{InstructionSet, Kernels};

/// Proof that this CPU supports NEON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon(());

const LANES: usize = 8;

/// The first half of the floats, and the second.
type Halves = [float32x4_t; 2];

impl Neon {
    /// A token, if `kernels` are those of a set that includes NEON.
    #[inline(always)]
    pub(crate) fn new(kernels: Kernels) -> Option<Self> {
        matches!(kernels.instruction_set(), InstructionSet::NeonI8mm | InstructionSet::NeonDotprod).then_some(Self(()))
    }

    /// Runs `work`, compiled for NEON.
    #[inline]
    pub(crate) fn dispatch<W: Vectorized>(self, work: W) -> W::Output {
        #[target_feature(enable = "neon")]
        fn compiled<W: Vectorized>(token: Neon, work: W) -> W::Output {
            work.run(token)
        }
        // SAFETY: the token proves that this CPU supports the feature.
        unsafe { compiled(self, work) }
    }

    /// Two masks that are set in the first `count` lanes.
    #[inline(always)]
    fn first(self, count: usize) -> [uint32x4_t; 2] {
        const NUMBERS: [u32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7];
        // SAFETY: there are 8 integers; the token proves that this CPU supports the instructions.
        unsafe {
            let count = vdupq_n_u32(count.min(LANES) as u32);
            [vcltq_u32(vld1q_u32(NUMBERS.as_ptr()), count), vcltq_u32(vld1q_u32(NUMBERS[4..].as_ptr()), count)]
        }
    }
}

/// Defines methods that apply the same intrinsics to both halves.
macro_rules! halfwise {
    ($(fn $name:ident($($argument:ident),*) = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: Halves),*) -> Halves {
            let mut out = [$($argument,)*][0];
            for half in 0..2 {
                $(let $argument = $argument[half];)*
                // SAFETY: the token proves that this CPU supports the instructions; they access no memory.
                out[half] = unsafe { $body };
            }
            out
        }
    )*};
}

impl Simd for Neon {
    type F32 = Halves;

    const LANES: usize = LANES;
    /// Pairs of registers.
    const REGISTERS: usize = 16;

    halfwise! {
        fn add(a, b) = vaddq_f32(a, b);
        fn sub(a, b) = vsubq_f32(a, b);
        fn mul(a, b) = vmulq_f32(a, b);
        fn div(a, b) = vdivq_f32(a, b);
        fn mul_add(a, b, c) = vfmaq_f32(c, a, b);
        // Not `vmaxq_f32`, which is NaN if either is.
        fn max(a, b) = vbslq_f32(vcgtq_f32(a, b), a, b);
        fn min(a, b) = vbslq_f32(vcltq_f32(a, b), a, b);
        fn abs(a) = vabsq_f32(a);
        fn round(a) = vrndnq_f32(a);
        fn scale_by_power(a, n) = {
            let exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
            vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        };
        fn select_less(a, b, yes, no) = vbslq_f32(vcltq_f32(a, b), yes, no);
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Halves {
        // SAFETY: the token proves that this CPU supports the instruction, which accesses no memory.
        [unsafe { vdupq_n_f32(value) }; 2]
    }

    #[inline(always)]
    fn load(self, values: &[f32]) -> Halves {
        let values = &values[..LANES];
        // SAFETY: there are 8 floats, as just checked; the token proves that this CPU supports the instructions.
        unsafe { [vld1q_f32(values.as_ptr()), vld1q_f32(values[4..].as_ptr())] }
    }

    #[inline(always)]
    fn load_first(self, values: &[f32]) -> Halves {
        let mut lanes = [0.0; LANES];
        let count = values.len().min(LANES);
        lanes[..count].copy_from_slice(&values[..count]);
        self.load(&lanes)
    }

    #[inline(always)]
    fn load_bytes(self, values: &[i8]) -> Halves {
        let values = &values[..LANES];
        // SAFETY: there are 8 bytes, as just checked; the token proves that this CPU supports the instructions.
        unsafe {
            let wide = vmovl_s8(vld1_s8(values.as_ptr()));
            [vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(wide)))]
        }
    }

    #[inline(always)]
    fn load_bytes_first(self, values: &[i8]) -> Halves {
        let mut bytes = [0; LANES];
        let count = values.len().min(LANES);
        bytes[..count].copy_from_slice(&values[..count]);
        self.load_bytes(&bytes)
    }

    #[inline(always)]
    fn store(self, to: &mut [f32], [low, high]: Halves) {
        let to = &mut to[..LANES];
        // SAFETY: there are 8 floats, as just checked; the token proves that this CPU supports the instructions.
        unsafe {
            vst1q_f32(to.as_mut_ptr(), low);
            vst1q_f32(to[4..].as_mut_ptr(), high);
        }
    }

    #[inline(always)]
    fn store_first(self, to: &mut [f32], vector: Halves) {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes, vector);
        let count = to.len().min(LANES);
        to[..count].copy_from_slice(&lanes[..count]);
    }

    #[inline(always)]
    fn first_or(self, vector: Halves, count: usize, others: Halves) -> Halves {
        let [low, high] = self.first(count);
        // SAFETY: the token proves that this CPU supports the instructions; they access no memory.
        unsafe { [vbslq_f32(low, vector[0], others[0]), vbslq_f32(high, vector[1], others[1])] }
    }

    #[inline(always)]
    fn sum(self, [low, high]: Halves) -> f32 {
        // SAFETY: the token proves that this CPU supports the instructions; they access no memory.
        unsafe {
            let quarter = vaddq_f32(low, high);
            let pair = vadd_f32(vget_low_f32(quarter), vget_high_f32(quarter));
            vget_lane_f32::<0>(pair) + vget_lane_f32::<1>(pair)
        }
    }

    #[inline(always)]
    fn max_lane(self, [low, high]: Halves) -> f32 {
        // SAFETY: the token proves that this CPU supports the instructions; they access no memory.
        unsafe { vmaxvq_f32(vmaxq_f32(low, high)) }
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8], [low, high]: Halves) {
        let to = &mut to[..LANES];
        // SAFETY: there are 8 bytes, as just checked; the token proves that this CPU supports the instructions.
        unsafe {
            let wide = vcombine_u16(vmovn_u32(vcvtq_u32_f32(low)), vmovn_u32(vcvtq_u32_f32(high)));
            vst1_u8(to.as_mut_ptr(), vmovn_u16(wide));
        }
    }

    #[inline(always)]
    fn store_bytes_first(self, to: &mut [u8], vector: Halves) {
        let mut bytes = [0; LANES];
        self.store_bytes(&mut bytes, vector);
        let count = to.len().min(LANES);
        to[..count].copy_from_slice(&bytes[..count]);
    }

    #[inline(always)]
    fn prepare_store(self, _to: &mut [f32]) {}

    #[inline(always)]
    fn prefetch<T>(self, address: *const T) {
        // SAFETY: a prefetch has no effect but on the caches, whatever the address.
        unsafe { asm!("prfm pldl1keep, [{address}]", address = in(reg) address, options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn prefetch_to_l2<T>(self, address: *const T) {
        // SAFETY: as above.
        unsafe { asm!("prfm pldl2keep, [{address}]", address = in(reg) address, options(nostack, preserves_flags)) };
    }

    #[inline(always)]
    fn transpose_8x8(self, from: [&[f32]; 8], to: &mut [f32], stride: usize) {
        let mut rows = [self.splat(0.0); 8];
        for (row, from) in rows.iter_mut().zip(from) {
            *row = self.load(from);
        }
        for half in 0..2 {
            let mut columns = [rows[0]; 4];
            for part in 0..2 {
                let mut square = [rows[0][0]; 4];
                for row in 0..4 {
                    square[row] = rows[4 * part + row][half];
                }
                // SAFETY: the token proves that this CPU supports the instructions; they access no memory.
                let square = unsafe { transpose(square) };
                for column in 0..4 {
                    columns[column][part] = square[column];
                }
            }
            for (column, values) in columns.into_iter().enumerate() {
                self.store(&mut to[(4 * half + column) * stride..], values);
            }
        }
    }
}

/// Transposes 4 rows: interleaves pairs of rows, and then pairs of pairs.
///
/// # Safety
/// This CPU must support NEON.
#[inline(always)]
unsafe fn transpose([a, b, c, d]: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: by the caller's guarantee; the instructions access no memory.
    unsafe {
        let even = [vtrn1q_f32(a, b), vtrn1q_f32(c, d)];
        let odd = [vtrn2q_f32(a, b), vtrn2q_f32(c, d)];
        let pairs = [even, odd];
        let mut columns = [a; 4];
        for (index, [first, second]) in pairs.into_iter().enumerate() {
            let [first, second] = [vreinterpretq_f64_f32(first), vreinterpretq_f64_f32(second)];
            columns[index] = vreinterpretq_f32_f64(vtrn1q_f64(first, second));
            columns[index + 2] = vreinterpretq_f32_f64(vtrn2q_f64(first, second));
        }
        columns
    }
}
