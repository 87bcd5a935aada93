//! The kernels that have tile registers, or emulated ones.
#![allow(unsafe_code)]

use super::amx::Registers;
use super::emulated::Emulated;
use super::{HasTiles, TileWork};
use crate::simd::bf16::avx512::Avx512Bf16;
use crate::{InstructionSet, Kernels};

/// The kernels of an instruction set with tiles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileKernels {
    token: Avx512Bf16,
    are_emulated: bool,
}

impl TileKernels {
    #[inline(always)]
    pub(super) fn new(kernels: Kernels) -> Option<Self> {
        let are_emulated = kernels.instruction_set() != InstructionSet::AmxBf16;
        Avx512Bf16::new(kernels).map(|token| Self { token, are_emulated })
    }
}

impl HasTiles for TileKernels {
    #[inline]
    fn run<W: TileWork>(self, work: W) {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512bf16,avx2,fma")]
        fn on_registers<W: TileWork>(token: Avx512Bf16, work: W) {
            // SAFETY: the kernels prove that this CPU has the registers and that this process may use them.
            let registers = unsafe { Registers::configure() };
            work.run(token, registers);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512bf16,avx2,fma")]
        fn on_emulation<W: TileWork>(token: Avx512Bf16, work: W) {
            work.run(token, Emulated::new());
        }
        // SAFETY: the token proves that this CPU supports these features (and AVX-512 includes AVX2).
        unsafe { if self.are_emulated { on_emulation(self.token, work) } else { on_registers(self.token, work) } }
    }
}
