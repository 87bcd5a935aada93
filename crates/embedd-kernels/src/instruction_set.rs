//! The instruction sets that have kernels, and whether this CPU supports them.

use std::fmt;

use crate::cpu::Feature;

/// The features of AMX-BF16, followed by those of its emulation and of AVX512-VNNI, which it includes.
static AMX_BF16: [Feature; 10] = [
    Feature::AmxTile,
    Feature::AmxBf16,
    Feature::Avx512Vbmi,
    Feature::Avx512Bf16,
    Feature::Avx512F,
    Feature::Avx512Bw,
    Feature::Avx512Dq,
    Feature::Avx512Vl,
    Feature::Avx512Vnni,
    Feature::Fma,
];

/// The features of AMX-INT8, which includes AVX512-VNNI.
static AMX_INT8: [Feature; 8] = [
    Feature::AmxTile,
    Feature::AmxInt8,
    Feature::Avx512F,
    Feature::Avx512Bw,
    Feature::Avx512Dq,
    Feature::Avx512Vl,
    Feature::Avx512Vnni,
    Feature::Fma,
];

/// An instruction set that has its own kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstructionSet {
    /// 512-bit vectors with products of bfloat16 matrices (x86-64). INT8 weights are widened, and activations are not
    /// quantized.
    AmxBf16,
    /// 512-bit vectors with products of INT8 matrices (x86-64).
    AmxInt8,
    /// 512-bit vectors with INT8 dot products (x86-64).
    Avx512Vnni,
    /// 256-bit vectors with INT8 dot products (x86-64).
    AvxVnni,
    /// 256-bit vectors with fused multiply-add (x86-64).
    Avx2,
    /// 128-bit vectors with dot products of unsigned and signed bytes (aarch64).
    NeonI8mm,
    /// 128-bit vectors with dot products of signed bytes (aarch64).
    NeonDotprod,
    /// The baseline of the compilation target.
    Plain,
    /// AMX-BF16 with its matrix products emulated by 512-bit vectors (x86-64): slow, but with the same bits, to prove the
    /// accuracy of a model on a CPU without AMX.
    EmulatedAmxBf16,
}

impl InstructionSet {
    /// All instruction sets, fastest first, followed by the emulated one.
    pub const ALL: [Self; 9] = [
        Self::AmxBf16,
        Self::AmxInt8,
        Self::Avx512Vnni,
        Self::AvxVnni,
        Self::Avx2,
        Self::NeonI8mm,
        Self::NeonDotprod,
        Self::Plain,
        Self::EmulatedAmxBf16,
    ];

    /// The fastest set that this CPU supports.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|set| set.is_available()).unwrap_or(Self::Plain)
    }

    /// The fastest set that this CPU supports, among those that quantize activations.
    pub fn best_for_int8() -> Self {
        Self::ALL.into_iter().find(|set| !set.uses_bf16() && set.is_available()).unwrap_or(Self::Plain)
    }

    /// The fastest set that this CPU supports, among those with bfloat16; `None` if it supports none.
    pub fn best_for_bf16() -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.uses_bf16() && set.is_available())
    }

    /// Whether activations become bfloat16 and are not quantized. That gives other vectors, with an accuracy of their own.
    pub fn uses_bf16(self) -> bool {
        matches!(self, Self::AmxBf16 | Self::EmulatedAmxBf16)
    }

    /// The CPU features that the set's kernels use.
    pub fn features(self) -> &'static [Feature] {
        match self {
            Self::AmxBf16 => &AMX_BF16,
            Self::AmxInt8 => &AMX_INT8,
            Self::Avx512Vnni => &AMX_INT8[2..],
            Self::AvxVnni => &[Feature::Avx2, Feature::Fma, Feature::AvxVnni],
            Self::Avx2 => &[Feature::Avx2, Feature::Fma],
            Self::NeonI8mm => &[Feature::Neon, Feature::I8mm],
            Self::NeonDotprod => &[Feature::Neon, Feature::DotProd],
            Self::Plain => &[],
            Self::EmulatedAmxBf16 => &AMX_BF16[2..],
        }
    }

    /// Whether this CPU supports the set.
    pub fn is_available(self) -> bool {
        self.features().iter().all(|feature| feature.is_available())
    }

    /// The name in logs and options: for example `avx512-vnni`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AmxBf16 => "amx-bf16",
            Self::AmxInt8 => "amx-int8",
            Self::Avx512Vnni => "avx512-vnni",
            Self::AvxVnni => "avx-vnni",
            Self::Avx2 => "avx2",
            Self::NeonI8mm => "neon-i8mm",
            Self::NeonDotprod => "neon-dotprod",
            Self::Plain => "plain",
            Self::EmulatedAmxBf16 => "emulated-amx-bf16",
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
