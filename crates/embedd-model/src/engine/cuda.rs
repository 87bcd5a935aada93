//! NVIDIA GPUs: whether one can be used, and its properties.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cudarc::driver::{CudaContext, DriverError};
use ort::environment::Environment;
use ort::ep;
use ort::session::Session as OrtSession;
use ort::session::builder::SessionBuilder;

use super::{Device, LoadError};

/// The driver's library. Everything else that a GPU needs can be fetched.
const DRIVER: &str = "libcuda.so.1";
/// ONNX Runtime looks for it in its own folder.
const PROVIDER: &str = "libonnxruntime_providers_cuda.so";
/// The oldest GPUs that CUDA 13 supports, by compute capability: Turing, of 2018.
const MIN_CAPABILITY: (i32, i32) = (7, 5);

/// An NVIDIA GPU whose driver works; cheap to clone.
#[derive(Clone)]
pub struct Gpu {
    number: u32,
    /// The product name, such as `NVIDIA L4`.
    name: String,
    capability: (i32, i32),
    context: Arc<CudaContext>,
}

/// The memory of a GPU, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuMemory {
    /// Allocated by all processes.
    pub used: u64,
    /// In total.
    pub total: u64,
}

impl Gpu {
    /// The GPU with this number, as CUDA counts those that are visible to the process.
    ///
    /// # Errors
    /// [`LoadError::Device`] says what is missing.
    pub fn open(number: u32) -> Result<Self, LoadError> {
        let failed = |reason: String| LoadError::Device { device: Device::Cuda(number), reason };
        preload(Path::new(DRIVER)).map_err(|error| failed(driver_is_missing(&error)))?;
        let count = CudaContext::device_count().map_err(|error| failed(no_gpu(&code(error))))?;
        if number >= u32::try_from(count).unwrap_or(0) {
            return Err(failed(no_such_gpu(number, count)));
        }
        let unusable =
            |error| failed(format!("the driver reports {}; nvidia-smi shows whether the GPU works", code(error)));
        let context = CudaContext::new(number as usize).map_err(unusable)?;
        let name = context.name().map_err(unusable)?;
        let capability = context.compute_capability().map_err(unusable)?;
        if capability < MIN_CAPABILITY {
            return Err(failed(too_old(&name, capability)));
        }
        Ok(Self { number, name, capability, context })
    }

    /// The device.
    pub fn device(&self) -> Device {
        Device::Cuda(self.number)
    }

    /// The instruction set, by the name that NVIDIA's tools use: `sm_89`.
    pub fn instruction_set(&self) -> String {
        let (major, minor) = self.capability;
        format!("sm_{major}{minor}")
    }

    /// The current use of memory; `None` if the driver fails to report it.
    pub fn memory(&self) -> Option<GpuMemory> {
        let (free, total) = self.context.mem_get_info().ok()?;
        Some(GpuMemory { used: total.saturating_sub(free) as u64, total: total as u64 })
    }

    /// Loads the libraries that ONNX Runtime's provider needs, which must be in the order of their dependencies.
    ///
    /// The loader does not search for a library that is loaded already, so nothing depends on its search path.
    pub(super) fn load_libraries(&self, dependencies: &[PathBuf]) -> Result<(), LoadError> {
        dependencies.iter().try_for_each(|library| preload(library)).map_err(|error| {
            let advice = "`embedd fetch --device cuda --verify` fetches damaged files again";
            let reason = format!("a library cannot be loaded: {error}; {advice}");
            LoadError::Device { device: self.device(), reason }
        })
    }

    /// Checks that an ONNX Runtime library has a provider for GPUs.
    pub(super) fn check_provider(&self, library: &Path) -> Result<(), LoadError> {
        if library.with_file_name(PROVIDER).is_file() {
            return Ok(());
        }
        let reason = format!(
            "{} is not a GPU build of ONNX Runtime: {PROVIDER} is not in its folder; without --onnxruntime, embedd \
             fetches a GPU build",
            library.display()
        );
        Err(LoadError::Device { device: self.device(), reason })
    }

    /// Loads ONNX Runtime's provider, to report its faults before those of a model.
    pub(super) fn check_usable(&self, environment: &Environment) -> Result<(), LoadError> {
        let usable = OrtSession::builder(environment).and_then(|builder| self.add_to(builder));
        let failed = |reason| LoadError::Device { device: self.device(), reason };
        usable.map(drop).map_err(|error| failed(provider_failed(&error.to_string())))
    }

    /// Lets a session run on this GPU.
    pub(super) fn add_to(&self, builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        let provider = ep::CUDA::default()
            .with_device_id(self.number.cast_signed())
            // float32 products round their inputs to 10 bits otherwise.
            .with_tf32(false)
            // Sums of squares in float16 lose the accuracy of models with outlier channels.
            .with_skip_layer_norm_strict_mode(true);
        // Without this, ONNX Runtime would silently use the CPU.
        Ok(builder.with_execution_providers([provider.build().error_on_failure()])?)
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu").field("number", &self.number).field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.device(), self.name)
    }
}

/// Loads a shared library for the rest of the process.
fn preload(library: &Path) -> Result<(), String> {
    ort::util::preload_dylib(library).map_err(|error| {
        // The error itself says only that loading failed.
        let source = std::error::Error::source(&error).map(ToString::to_string);
        source.unwrap_or_else(|| error.to_string())
    })
}

fn driver_is_missing(error: &str) -> String {
    format!(
        "NVIDIA's driver cannot be loaded ({error}); install the driver, version 580 or later. A container gets it from \
         its host with NVIDIA's container toolkit (`docker run --gpus all`)"
    )
}

/// The name of an error, such as `CUDA_ERROR_NO_DEVICE`.
fn code(DriverError(code): DriverError) -> String {
    format!("{code:?}")
}

fn no_gpu(error: &str) -> String {
    format!(
        "the driver finds no GPU ({error}); nvidia-smi shows those that it can use, and CUDA_VISIBLE_DEVICES may hide \
         some"
    )
}

fn no_such_gpu(number: u32, count: i32) -> String {
    match count {
        1 => format!("there is no GPU with number {number}: the only one is cuda:0"),
        _ => format!("there is no GPU with number {number}: this process can use cuda:0 to cuda:{}", count - 1),
    }
}

/// Reduces ONNX Runtime's error, which names its source files, to what CUDA reports.
fn provider_failed(error: &str) -> String {
    let reason = error.split_once("CUDA failure ").map_or(error, |(_, reason)| reason);
    let reason = reason.split(" ; ").next().unwrap_or(reason).trim();
    if reason.contains("driver version is insufficient") {
        return format!("the driver is too old for CUDA 13 ({reason}); install version 580 or later");
    }
    format!("ONNX Runtime's provider fails: {reason}")
}

fn too_old(name: &str, (major, minor): (i32, i32)) -> String {
    let (least, of) = MIN_CAPABILITY;
    format!("{name} has compute capability {major}.{minor}, but CUDA 13 needs {least}.{of} or later")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ONNX Runtime 1.31 reports it.
    const OLD_DRIVER: &str = "/onnxruntime_src/cuda_execution_provider_info.cc:63 FromProviderOptions [ONNXRuntimeError] : \
                              1 : FAIL : Failed to parse provider option \"device_id\": CUDA failure 35: CUDA driver \
                              version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=h ; file=/x.cc ; \
                              line=70 ; expr=cudaGetDeviceCount(&num_devices); \n";

    #[test]
    fn errors_say_what_is_missing_and_what_to_do() {
        let all = [
            (driver_is_missing("libcuda.so.1: not found"), ["libcuda.so.1", "install the driver", "--gpus all"]),
            (no_gpu("CUDA_ERROR_NO_DEVICE"), ["CUDA_ERROR_NO_DEVICE", "nvidia-smi", "CUDA_VISIBLE_DEVICES"]),
            (no_such_gpu(1, 1), ["number 1", "only one", "cuda:0"]),
            (no_such_gpu(4, 2), ["number 4", "cuda:0 to", "cuda:1"]),
            (too_old("Tesla V100", (7, 0)), ["Tesla V100", "7.0", "7.5"]),
            (provider_failed("libcublas.so.13: cannot open\n"), ["provider", "libcublas.so.13", "cannot open"]),
            (provider_failed(OLD_DRIVER), ["too old", "35", "580"]),
        ];
        for (message, parts) in all {
            parts.iter().for_each(|part| assert!(message.contains(part), "{message}"));
            assert!(!message.contains(".cc") && message.trim() == message, "{message}");
        }
    }

    /// Passes on a machine with GPUs as well: none has a thousand.
    #[test]
    fn a_gpu_that_cannot_be_used_is_an_error() {
        let error = Gpu::open(1000).expect_err("no such GPU").to_string();
        assert!(error.starts_with("cannot run models on cuda:1000: "), "{error}");
        let known = ["libcuda.so.1", "no GPU"];
        assert!(known.iter().any(|part| error.contains(part)), "{error}");
    }
}
