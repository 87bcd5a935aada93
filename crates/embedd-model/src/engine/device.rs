//! The processor that runs a model.

use std::fmt;
use std::str::FromStr;

use crate::bundle::Variant;

/// The processor that runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The CPUs of this process.
    #[default]
    Cpu,
    /// The NVIDIA GPU with this number, as CUDA counts those that are visible to the process.
    Cuda(u32),
}

/// The text does not name a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`cpu`, `cuda` (the first GPU), or `cuda:N` (the GPU with number N)")]
pub struct InvalidDevice;

impl Device {
    /// Whether this kind of device runs an engine. GPUs have no operators for the INT8 engines.
    pub fn runs(self, engine: Variant) -> bool {
        match (self, engine) {
            (Self::Cpu, _) | (Self::Cuda(_), Variant::Fp32 | Variant::Fp16) => true,
            (Self::Cuda(_), Variant::Portable | Variant::Native) => false,
        }
    }

    /// Whether this is a GPU.
    pub fn is_gpu(self) -> bool {
        matches!(self, Self::Cuda(_))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = InvalidDevice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse().map(Self::Cuda).map_err(|_| InvalidDevice)
            }
            _ => Err(InvalidDevice),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_written_as_they_are_read() {
        for (text, device) in [
            ("cpu", Device::Cpu),
            ("cuda", Device::Cuda(0)),
            ("cuda:0", Device::Cuda(0)),
            ("cuda:12", Device::Cuda(12)),
        ] {
            assert_eq!(text.parse(), Ok(device), "{text}");
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for text in ["", "CPU ", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cuda:4294967296", "cpu:0", "rocm:0"] {
            assert_eq!(text.parse::<Device>(), Err(InvalidDevice), "{text}");
        }
    }
}
