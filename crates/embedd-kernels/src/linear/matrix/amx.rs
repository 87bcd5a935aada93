//! The matrix registers of AMX-INT8.
//!
//! The instructions are in assembly, because the standard library does not offer them yet. The compiler never uses these
//! registers itself.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{FromSums, Matrices, QUAD_STRIDE, SIDE, STEP, Sums};
use crate::linear::Task;
use crate::simd::avx512::Avx512;
use crate::tiles::amx::Registers;
use crate::{InstructionSet, Kernels};

/// The minimum number of rows. A product with fewer rows takes as long as its weights take to arrive from memory, whatever
/// the instructions, so it is left to the simpler kernel.
const MIN_ROWS: usize = 7;

/// Whether this kernel is available and has enough rows.
pub(in crate::linear) fn is_worth_using(kernels: Kernels, rows: usize) -> bool {
    kernels.instruction_set() == InstructionSet::AmxInt8 && rows >= MIN_ROWS
}

/// Runs `task`. Panics if `kernels` are not those of AMX-INT8.
pub(in crate::linear) fn run(kernels: Kernels, task: Task<'_>) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
    fn compiled(token: Avx512, task: Task<'_>) {
        // SAFETY: the kernels prove that this CPU has the registers and that this process may use them.
        let registers = unsafe { Registers::configure() };
        task.run_on_matrices(token, registers);
    }
    assert_eq!(kernels.instruction_set(), InstructionSet::AmxInt8);
    let token = Avx512::new(kernels).expect("kernels of AMX-INT8, which include AVX-512");
    // SAFETY: the token proves that this CPU supports these features (and AVX-512 includes AVX2).
    unsafe { compiled(token, task) }
}

/// Registers 0 to 3 hold sums; 4 and 5 hold what is multiplied.
impl Matrices for Registers {
    #[inline(always)]
    fn clear<const SUMS: usize>(&mut self) {
        // SAFETY: the registers are configured.
        unsafe { asm!("tilezero tmm{sums}", sums = const SUMS, options(nostack, preserves_flags, nomem)) };
    }

    #[inline(always)]
    unsafe fn add_products<const SUMS: usize>(&mut self, rows: *const u8, stride: usize, weights: *const i8) {
        // SAFETY: by the caller's guarantee; the registers are configured.
        unsafe {
            asm!(
                "tileloadd tmm4, [{rows} + {stride}]",
                "tileloadd tmm5, [{weights} + {quad_stride}]",
                "tdpbusd tmm{sums}, tmm4, tmm5",
                rows = in(reg) rows,
                stride = in(reg) stride,
                weights = in(reg) weights,
                quad_stride = in(reg) QUAD_STRIDE,
                sums = const SUMS,
                options(nostack, preserves_flags, readonly),
            );
        }
    }

    #[inline(always)]
    fn store<const SUMS: usize>(&mut self, to: &mut Sums) {
        const { assert!(size_of::<Sums>() == SIDE * STEP) };
        // SAFETY: the registers are configured; 16 rows of 64 bytes fill `to`.
        unsafe {
            asm!(
                "tilestored [{to} + {stride}], tmm{sums}",
                to = in(reg) to,
                stride = in(reg) STEP,
                sums = const SUMS,
                options(nostack, preserves_flags),
            );
        }
    }
}

impl FromSums for Avx512 {
    #[inline(always)]
    unsafe fn load_sums(self, sums: *const i32) -> __m512 {
        // SAFETY: by the caller's guarantee; the token proves that this CPU supports the instructions.
        unsafe { _mm512_cvtepi32_ps(_mm512_loadu_si512(sums.cast())) }
    }

    #[inline(always)]
    unsafe fn load_split_sums(self, high: *const i32, low: *const i32) -> __m512 {
        // SAFETY: as above.
        unsafe {
            let high = _mm512_slli_epi32::<8>(_mm512_loadu_si512(high.cast()));
            _mm512_cvtepi32_ps(_mm512_add_epi32(high, _mm512_loadu_si512(low.cast())))
        }
    }
}
