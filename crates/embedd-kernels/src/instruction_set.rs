//! The instruction sets that have kernels, and whether this CPU supports them.

use std::fmt;

use crate::cpu::Feature;

/// An instruction set that has its own kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstructionSet {
    /// 512-bit vectors with INT8 dot products (x86-64).
    Avx512Vnni,
    /// 256-bit vectors with fused multiply-add (x86-64).
    Avx2,
    /// The baseline of the compilation target.
    Plain,
}

impl InstructionSet {
    /// All instruction sets, fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512Vnni, Self::Avx2, Self::Plain];

    /// The fastest set that this CPU supports.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|set| set.is_available()).unwrap_or(Self::Plain)
    }

    /// The CPU features that the set's kernels use.
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

    /// Whether this CPU supports the set.
    pub fn is_available(self) -> bool {
        self.features().iter().all(|feature| feature.is_available())
    }

    /// The name in logs and options: `avx512-vnni`, `avx2` or `plain`.
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
