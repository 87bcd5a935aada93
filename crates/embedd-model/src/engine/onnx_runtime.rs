//! The ONNX Runtime library, and the sessions that it creates.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use ort::environment::Environment;

use super::choice::{ON_GPU, fastest_first, proved_set};
use super::external_data::check_self_contained;
use super::native::NativeModel;
use super::padded::{Graph, Observer, PaddedSession};
use super::{Device, Gpu, LoadError, Session, SessionOptions};
use crate::bundle::{AccuracyRecord, Bundle, ModelRecord, Variant};
use embedd_common::checksum::Sha256Hex;
use embedd_common::files::open_regular;
use embedd_kernels::{CpuInstructions, InstructionSet, Kernels};

/// A loaded ONNX Runtime library.
#[derive(Debug, Clone)]
pub struct OnnxRuntime {
    environment: Environment,
    version: String,
    kernels: Kernels,
    /// Whether the kernels were asked for.
    are_fixed: bool,
    gpu: Option<Gpu>,
}

/// A model from which sessions are created.
enum Model {
    Native(NativeModel),
    /// The contents of the ONNX file at `path`: a graph for any ONNX Runtime.
    Verified {
        path: PathBuf,
        contents: Vec<u8>,
    },
    /// A file outside a bundle.
    File(PathBuf),
}

impl OnnxRuntime {
    /// Loads the shared library. A process can load only one; the returned value is cheap to clone.
    ///
    /// # Errors
    /// [`LoadError::Library`].
    pub fn load(library: &Path) -> Result<Self, LoadError> {
        let library = &absolute(library)?;
        if !library.is_file() {
            return Err(LoadError::Library { path: library.clone(), reason: "file not found".to_owned() });
        }
        Self::load_from(library, library)
    }

    /// Like [`load`](Self::load), but only if the library has this digest.
    ///
    /// On Linux, exactly the file that was checked is loaded, even if another one gets its name in the meantime.
    ///
    /// # Errors
    /// [`LoadError::Library`] or [`LoadError::ChangedLibrary`].
    pub fn load_verified(library: &Path, expected: &Sha256Hex) -> Result<Self, LoadError> {
        let library = &absolute(library)?;
        // Stays open until the library is loaded.
        let file = checked(library, expected)?;
        let opened = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
        Self::load_from(library, if opened.exists() { &opened } else { library })
    }

    /// Loads a GPU build, whose sessions run on `gpu`. `dependencies` are loaded first, in this order. If there is a
    /// digest, only a library that has it is loaded.
    ///
    /// # Errors
    /// [`LoadError::Library`], [`LoadError::ChangedLibrary`] or [`LoadError::Device`].
    pub fn load_with_gpu(
        library: &Path,
        expected: Option<&Sha256Hex>,
        dependencies: &[PathBuf],
        gpu: Gpu,
    ) -> Result<Self, LoadError> {
        let library = &absolute(library)?;
        gpu.check_provider(library)?;
        if let Some(expected) = expected {
            checked(library, expected)?;
        }
        gpu.load_libraries(dependencies)?;
        // ONNX Runtime finds its provider in the folder of the path by which it was loaded.
        let runtime = Self::load(library)?;
        gpu.check_usable(&runtime.environment)?;
        Ok(Self { gpu: Some(gpu), ..runtime })
    }

    /// Loads `library`, whose file is at `path`.
    fn load_from(library: &Path, path: &Path) -> Result<Self, LoadError> {
        let failed = |reason: String| LoadError::Library { path: library.to_owned(), reason };
        let builder = ort::init_from(path).map_err(|error| failed(error.to_string()))?;
        let environment =
            builder.with_name("embedd").with_telemetry(false).build().map_err(|error| failed(error.to_string()))?;
        Ok(Self { environment, version: version_of(library), kernels: Kernels::best(), are_fixed: false, gpu: None })
    }

    /// Selects the instruction set for native sessions; `None` selects the fastest that this CPU supports.
    ///
    /// # Errors
    /// [`LoadError::InstructionSet`].
    pub fn with_instruction_set(self, asked: Option<InstructionSet>) -> Result<Self, LoadError> {
        let kernels = match asked {
            Some(asked) => Kernels::of(asked).ok_or(LoadError::InstructionSet { asked })?,
            None => Kernels::best(),
        };
        Ok(Self { kernels, are_fixed: asked.is_some(), ..self })
    }

    /// The same library, with kernels for which the bundle's native model passed the accuracy gate, unless other kernels
    /// were selected.
    #[must_use]
    pub fn for_bundle(&self, bundle: &Bundle) -> Self {
        let mut runtime = self.clone();
        if let Ok(record) = bundle.model(Variant::Native)
            && !self.are_fixed
            && let Some(kernels) = Kernels::of(proved_set(self.kernels.instruction_set(), record))
        {
            runtime.kernels = kernels;
        }
        runtime
    }

    /// The accuracy that an engine has with this runtime, if it was measured.
    pub fn accuracy(&self, engine: Variant, record: &ModelRecord) -> Option<AccuracyRecord> {
        match engine {
            Variant::Native if self.kernels.instruction_set().uses_bf16() => record.accuracy_bf16,
            _ => record.accuracy,
        }
    }

    /// Whether an engine may be served: it passed the accuracy gate, or is not quantized.
    pub fn is_accurate(&self, engine: Variant, record: &ModelRecord) -> bool {
        self.accuracy(engine, record).map_or(engine == Variant::Fp32, |accuracy| accuracy.passed())
    }

    /// The same library, with sessions on the CPU.
    #[must_use]
    pub fn on_cpu(&self) -> Self {
        Self { gpu: None, ..self.clone() }
    }

    /// The GPU on which sessions run; `None` if they run on the CPU.
    pub fn gpu(&self) -> Option<&Gpu> {
        self.gpu.as_ref()
    }

    /// The device on which sessions run.
    pub fn device(&self) -> Device {
        self.gpu.as_ref().map_or(Device::Cpu, Gpu::device)
    }

    /// The engines that are worth using on the device, fastest first.
    pub fn fastest_first(&self) -> Vec<Variant> {
        match self.device() {
            Device::Cuda(_) => ON_GPU.to_vec(),
            Device::Cpu => fastest_first(self.kernels.instruction_set(), CpuInstructions::widest()),
        }
    }

    /// The instruction set that an engine uses.
    pub fn instruction_set(&self, engine: Variant) -> String {
        match (&self.gpu, engine) {
            (Some(gpu), _) => gpu.instruction_set(),
            (None, Variant::Native) => self.kernels.instruction_set().to_string(),
            (None, Variant::Fp32 | Variant::Fp16 | Variant::Portable) => CpuInstructions::widest().to_string(),
        }
    }

    /// The kernels that native sessions use.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The library's version, such as `1.32.0`, or `unknown` if the file name does not contain it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Verifies one of a bundle's models and loads it into `count` sessions. Sessions of a native model share its
    /// weights.
    ///
    /// # Errors
    /// [`LoadError::Bundle`], [`LoadError::Weights`] or [`LoadError::Model`].
    pub fn sessions(
        &self,
        bundle: &Bundle,
        variant: Variant,
        count: NonZeroUsize,
        options: SessionOptions,
    ) -> Result<Vec<Box<dyn Session>>, LoadError> {
        let model = self.model_of(bundle, variant)?;
        (0..count.get()).map(|_| self.start(&model, options)).collect()
    }

    /// Like [`sessions`](Self::sessions), but returns a single session.
    ///
    /// # Errors
    /// The same as for [`sessions`](Self::sessions).
    pub fn one_session(
        &self,
        bundle: &Bundle,
        variant: Variant,
        options: SessionOptions,
    ) -> Result<Box<dyn Session>, LoadError> {
        self.start(&self.model_of(bundle, variant)?, options)
    }

    /// Loads a native model from files outside a bundle.
    ///
    /// # Errors
    /// The same as for [`sessions`](Self::sessions).
    pub fn native_session(
        &self,
        graph: &Path,
        weights: &Path,
        options: SessionOptions,
    ) -> Result<Box<dyn Session>, LoadError> {
        self.start(&Model::Native(NativeModel::of_files(graph, weights)?), options)
    }

    /// Loads a float32 or portable model from a file outside a bundle.
    ///
    /// # Errors
    /// [`LoadError::Model`].
    pub fn session(&self, model: &Path, options: SessionOptions) -> Result<Box<dyn Session>, LoadError> {
        self.start(&Model::File(model.to_owned()), options)
    }

    /// Loads a float32 or portable model from a file, to observe its float32 outputs named in `outputs`.
    ///
    /// # Errors
    /// [`LoadError::Model`].
    pub fn observer(&self, model: &Path, outputs: Vec<String>, options: SessionOptions) -> Result<Observer, LoadError> {
        Observer::load(&self.environment, model, outputs, options)
            .map_err(|error| LoadError::Model { path: model.to_owned(), reason: error.to_string() })
    }

    fn model_of(&self, bundle: &Bundle, engine: Variant) -> Result<Model, LoadError> {
        let device = self.device();
        if !device.runs(engine) {
            return Err(LoadError::NotOnDevice { device, engine });
        }
        Model::of_bundle(bundle, engine)
    }

    fn start(&self, model: &Model, options: SessionOptions) -> Result<Box<dyn Session>, LoadError> {
        match model {
            Model::Native(model) => model.session(&self.environment, self.kernels, options),
            Model::Verified { path, contents } => self.padded(path, Graph::Memory(contents), options),
            Model::File(path) => self.padded(path, Graph::File(path), options),
        }
    }

    fn padded(&self, path: &Path, graph: Graph<'_>, options: SessionOptions) -> Result<Box<dyn Session>, LoadError> {
        let session = PaddedSession::load(&self.environment, graph, self.gpu.as_ref(), options);
        let session = session.map_err(|error| LoadError::Model { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Box::new(session))
    }
}

impl Model {
    fn of_bundle(bundle: &Bundle, variant: Variant) -> Result<Self, LoadError> {
        match variant {
            Variant::Native => NativeModel::of_bundle(bundle).map(Self::Native),
            Variant::Fp32 | Variant::Fp16 | Variant::Portable => {
                let file = &bundle.model(variant)?.file;
                let path = bundle.folder().join(file);
                let contents = bundle.read(file, |length| Ok(vec![0; length]))?;
                check_self_contained(&contents, &path)?;
                Ok(Self::Verified { path, contents })
            }
        }
    }
}

/// Opens a library that has this digest.
fn checked(library: &Path, expected: &Sha256Hex) -> Result<File, LoadError> {
    let failed = |error: io::Error| LoadError::Library { path: library.to_owned(), reason: error.to_string() };
    let file = open_regular(library).map_err(failed)?;
    let found = Sha256Hex::of_reader(&file).map_err(failed)?;
    if found != *expected {
        return Err(LoadError::ChangedLibrary { path: library.to_owned(), expected: expected.clone(), found });
    }
    Ok(file)
}

/// The loader searches other folders for a relative path than the working directory.
fn absolute(library: &Path) -> Result<PathBuf, LoadError> {
    let failed = |error: io::Error| LoadError::Library { path: library.to_owned(), reason: error.to_string() };
    std::path::absolute(library).map_err(failed)
}

/// Takes the version from the file name (`libonnxruntime.so.1.32.0`, `libonnxruntime.1.32.0.dylib`) after following
/// links, because the library's build information does not contain it.
fn version_of(library: &Path) -> String {
    let file = std::fs::canonicalize(library).unwrap_or_else(|_| library.to_owned());
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let numbers: Vec<&str> = name.split('.').filter(|part| part.bytes().all(|byte| byte.is_ascii_digit())).collect();
    if numbers.is_empty() { "unknown".to_owned() } else { numbers.join(".") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_comes_from_the_file_name() {
        assert_eq!(version_of(Path::new("x/libonnxruntime.so.1.32.0")), "1.32.0");
        assert_eq!(version_of(Path::new("x/libonnxruntime.1.32.0.dylib")), "1.32.0");
        assert_eq!(version_of(Path::new("libonnxruntime.so")), "unknown");
    }

    #[test]
    fn a_library_with_another_digest_is_not_loaded() {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("libonnxruntime.so.1.32.0");
        std::fs::write(&library, "changed").expect("a file");
        let expected = Sha256Hex::of(b"pinned");
        let error = OnnxRuntime::load_verified(&library, &expected).expect_err("another file").to_string();
        let found = Sha256Hex::of(b"changed");
        for part in [expected.as_str(), found.as_str(), "libonnxruntime.so.1.32.0", "embedd fetch --verify"] {
            assert!(error.contains(part), "{error}");
        }
        // A file with the right digest gets as far as the loader, which rejects it because it is not a library.
        let error = OnnxRuntime::load_verified(&library, &found).expect_err("not a library");
        assert!(matches!(error, LoadError::Library { .. }), "{error}");
    }

    #[test]
    fn a_relative_path_is_looked_up_in_the_working_directory_only() {
        let error = OnnxRuntime::load(Path::new("libc.so.6")).expect_err("it is in the loader's search path alone");
        let absolute = std::env::current_dir().expect("a folder").join("libc.so.6");
        assert!(error.to_string().contains(&format!("{}: file not found", absolute.display())), "{error}");
    }
}
