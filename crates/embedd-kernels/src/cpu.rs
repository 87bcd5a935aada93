//! The CPU features that kernels require, that reports list, and that the choice of engine depends on.

use std::fmt;

use crate::amx;

/// Generates [`Feature`] from a table. Each row has a feature's name on Linux and, if the standard library can detect
/// the feature, its architecture and its name in Rust.
macro_rules! features {
    ($($feature:ident: $linux:literal $(, $arch:literal $detect:ident $rust:tt)?;)+) => {
        /// A CPU feature that matters to matrix products.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "these are the CPU vendors' names")]
        pub enum Feature { $($feature,)+ }

        impl Feature {
            /// Every feature of every architecture.
            pub const ALL: &[Self] = &[$(Self::$feature,)+];

            /// The name in `/proc/cpuinfo`.
            pub fn linux_name(self) -> &'static str {
                match self { $(Self::$feature => $linux,)+ }
            }

            /// Whether this CPU has the feature and the operating system allows this process to use it.
            pub fn is_available(self) -> bool {
                match self {
                    $($(
                        #[cfg(target_arch = $arch)]
                        Self::$feature => std::arch::$detect!($rust),
                    )?)+
                    _ => amx::is_available(self),
                }
            }
        }
    };
}

features! {
    Avx2: "avx2", "x86_64" is_x86_feature_detected "avx2";
    Fma: "fma", "x86_64" is_x86_feature_detected "fma";
    F16c: "f16c", "x86_64" is_x86_feature_detected "f16c";
    AvxVnni: "avx_vnni", "x86_64" is_x86_feature_detected "avxvnni";
    Avx512F: "avx512f", "x86_64" is_x86_feature_detected "avx512f";
    Avx512Bw: "avx512bw", "x86_64" is_x86_feature_detected "avx512bw";
    Avx512Dq: "avx512dq", "x86_64" is_x86_feature_detected "avx512dq";
    Avx512Vl: "avx512vl", "x86_64" is_x86_feature_detected "avx512vl";
    Avx512Vnni: "avx512_vnni", "x86_64" is_x86_feature_detected "avx512vnni";
    Avx512Vbmi: "avx512vbmi", "x86_64" is_x86_feature_detected "avx512vbmi";
    Avx512Bf16: "avx512_bf16", "x86_64" is_x86_feature_detected "avx512bf16";
    AmxTile: "amx_tile";
    AmxInt8: "amx_int8";
    AmxBf16: "amx_bf16";
    Neon: "asimd", "aarch64" is_aarch64_feature_detected "neon";
    DotProd: "asimddp", "aarch64" is_aarch64_feature_detected "dotprod";
    I8mm: "i8mm", "aarch64" is_aarch64_feature_detected "i8mm";
    Bf16: "bf16", "aarch64" is_aarch64_feature_detected "bf16";
}

/// The widest instructions of a CPU that ONNX Runtime uses for matrix products.
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
    /// 128-bit vectors, the baseline of x86-64.
    Sse2,
    /// 128-bit vectors with INT8 matrix products (aarch64).
    NeonI8mm,
    /// 128-bit vectors with INT8 dot products (aarch64).
    NeonDotprod,
    /// 128-bit vectors, the baseline of aarch64.
    Neon,
    /// Any other architecture.
    Other,
}

impl CpuInstructions {
    /// The widest instructions of this CPU.
    pub fn widest() -> Self {
        let widest_first = [
            (Feature::Avx512Vnni, Self::Avx512Vnni),
            (Feature::AvxVnni, Self::AvxVnni),
            (Feature::Avx512F, Self::Avx512),
            (Feature::Avx2, Self::Avx2),
            (Feature::I8mm, Self::NeonI8mm),
            (Feature::DotProd, Self::NeonDotprod),
        ];
        let found = widest_first.into_iter().find(|(feature, _)| feature.is_available());
        let baseline = match std::env::consts::ARCH {
            "x86_64" => Self::Sse2,
            "aarch64" => Self::Neon,
            _ => Self::Other,
        };
        found.map_or(baseline, |(_, instructions)| instructions)
    }

    /// Whether INT8 dot products are among the instructions. Without them, ONNX Runtime's INT8 kernels are slower than
    /// its float32 kernels, and their sums can saturate.
    pub fn has_int8_dot_products(self) -> bool {
        match self {
            Self::Avx512Vnni | Self::AvxVnni | Self::NeonI8mm | Self::NeonDotprod => true,
            Self::Avx512 | Self::Avx2 | Self::Sse2 | Self::Neon | Self::Other => false,
        }
    }
}

impl fmt::Display for CpuInstructions {
    /// As logged, for example `avx512-vnni`.
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
