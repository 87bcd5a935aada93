//! Which instruction sets have kernels, and which of them this CPU has.

use std::fmt;

use crate::cpu::Feature;

/// An instruction set that there are kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstructionSet {
    /// 512-bit vectors with INT8 dot products (x86-64).
    Avx512Vnni,
    /// 256-bit vectors with fused multiply-add (x86-64).
    Avx2,
    /// What Rust compiles for every CPU of the target.
    Plain,
}

impl InstructionSet {
    /// Every one, the fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512Vnni, Self::Avx2, Self::Plain];

    /// The fastest that this CPU has.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|set| set.is_available()).unwrap_or(Self::Plain)
    }

    /// The CPU features that its kernels use.
    pub fn features(self) -> &'static [Feature] {
        match self {
            Self::Avx512Vnni => &[
                Feature::Avx512F,
                Feature::Avx512Bw,
                Feature::Avx512Dq,
                Feature::Avx512Vl,
                Feature::Avx512Vnni,
                Feature::Fma,
            ],
            Self::Avx2 => &[Feature::Avx2, Feature::Fma],
            Self::Plain => &[],
        }
    }

    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        self.features().iter().all(|feature| feature.is_available())
    }

    /// As it is logged and asked for: `avx512-vnni`, `avx2`, `plain`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx2 => "avx2",
            Self::Plain => "plain",
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
