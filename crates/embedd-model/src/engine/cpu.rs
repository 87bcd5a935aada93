//! What this CPU can do.

use std::fmt;

/// The instructions of a CPU that matter most to matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CpuInstructions {
    /// 512-bit vectors with INT8 dot products (x86-64).
    Avx512Vnni,
    /// 256-bit vectors with INT8 dot products (x86-64).
    AvxVnni,
    /// 512-bit vectors (x86-64).
    Avx512,
    /// 256-bit vectors (x86-64).
    Avx2,
    /// 128-bit vectors, which every CPU has (x86-64).
    Sse2,
    /// 128-bit vectors with products of INT8 matrices (aarch64).
    NeonI8mm,
    /// 128-bit vectors with INT8 dot products (aarch64).
    NeonDotprod,
    /// 128-bit vectors, which every CPU has (aarch64).
    Neon,
    /// Those of another architecture.
    Other,
}

impl CpuInstructions {
    /// The widest of this CPU.
    pub fn widest() -> Self {
        detect()
    }

    /// Whether there are instructions for INT8 dot products: without them ONNX Runtime's INT8 is slower than its
    /// float32, and its sums can saturate.
    pub fn multiply_bytes(self) -> bool {
        match self {
            Self::Avx512Vnni | Self::AvxVnni | Self::NeonI8mm | Self::NeonDotprod => true,
            Self::Avx512 | Self::Avx2 | Self::Sse2 | Self::Neon | Self::Other => false,
        }
    }
}

impl fmt::Display for CpuInstructions {
    /// As they are logged, for example `avx512-vnni`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avx512Vnni => "avx512-vnni",
            Self::AvxVnni => "avx-vnni",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Sse2 => "sse2",
            Self::NeonI8mm => "neon-i8mm",
            Self::NeonDotprod => "neon-dotprod",
            Self::Neon => "neon",
            Self::Other => std::env::consts::ARCH,
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> CpuInstructions {
    if is_x86_feature_detected!("avx512vnni") {
        CpuInstructions::Avx512Vnni
    } else if is_x86_feature_detected!("avxvnni") {
        CpuInstructions::AvxVnni
    } else if is_x86_feature_detected!("avx512f") {
        CpuInstructions::Avx512
    } else if is_x86_feature_detected!("avx2") {
        CpuInstructions::Avx2
    } else {
        CpuInstructions::Sse2
    }
}

#[cfg(target_arch = "aarch64")]
fn detect() -> CpuInstructions {
    if std::arch::is_aarch64_feature_detected!("i8mm") {
        CpuInstructions::NeonI8mm
    } else if std::arch::is_aarch64_feature_detected!("dotprod") {
        CpuInstructions::NeonDotprod
    } else {
        CpuInstructions::Neon
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> CpuInstructions {
    CpuInstructions::Other
}
