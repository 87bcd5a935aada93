//! Sessions of ONNX Runtime.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use ndarray::{Array2, Ix2};
use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session as OrtSession};
use ort::value::TensorRef;

use super::{InferenceError, NativeModel, Session, TokenIds};
use crate::bundle::{Bundle, BundleError, Variant, graph_io};
use crate::kernels::{InstructionSet, Kernels};

/// A loaded ONNX Runtime library.
#[derive(Debug, Clone)]
pub struct OnnxRuntime {
    environment: Environment,
    version: String,
    kernels: Kernels,
}

/// How a session runs.
#[derive(Debug, Clone, Copy)]
pub struct SessionOptions {
    /// Threads that share the work of one batch.
    pub threads: NonZeroUsize,
}

/// Why the library or a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The library is missing, or not what it should be.
    #[error(
        "{path} cannot be loaded as the ONNX Runtime library: {reason}; `embedd fetch` brings one, and --onnxruntime \
         names another"
    )]
    Library {
        /// The shared library.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// The bundle's file is missing or damaged.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The weights of a native model are not what its graph needs.
    #[error("{path}: the native model's weights cannot be used: {reason}")]
    Weights {
        /// The safetensors file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// This CPU lacks what was asked for.
    #[error(
        "this CPU has no {asked} (--instruction-set); there are kernels for what it has: {}; `auto` takes the fastest",
        available().join(", ")
    )]
    InstructionSet {
        /// What was asked for.
        asked: InstructionSet,
    },
    /// ONNX Runtime does not take the model.
    #[error("{path}: ONNX Runtime cannot load the model: {reason}")]
    Model {
        /// The ONNX file.
        path: PathBuf,
        /// What ONNX Runtime said.
        reason: String,
    },
}

impl OnnxRuntime {
    /// Loads the shared library. A process can do that once; what it gives is cheap to clone.
    ///
    /// # Errors
    /// [`LoadError::Library`].
    pub fn load(library: &Path) -> Result<Self, LoadError> {
        let failed = |reason: String| LoadError::Library { path: library.to_owned(), reason };
        if !library.is_file() {
            return Err(failed("there is no such file".to_owned()));
        }
        let builder = ort::init_from(library).map_err(|error| failed(error.to_string()))?;
        let environment =
            builder.with_name("embedd").with_telemetry(false).build().map_err(|error| failed(error.to_string()))?;
        Ok(Self { environment, version: version_of(library), kernels: Kernels::best() })
    }

    /// With the kernels of this instruction set in native sessions; `None`: those of the fastest that this CPU has.
    ///
    /// # Errors
    /// [`LoadError::InstructionSet`].
    pub fn with_instruction_set(self, asked: Option<InstructionSet>) -> Result<Self, LoadError> {
        let kernels = match asked {
            Some(asked) => Kernels::of(asked).ok_or(LoadError::InstructionSet { asked })?,
            None => Kernels::best(),
        };
        Ok(Self { kernels, ..self })
    }

    /// The kernels of native sessions.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The library's version, such as `1.32.0`; `unknown` where its file name does not say.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Loads one of a bundle's models, its checksum verified, into so many sessions.
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
        if variant == Variant::Native {
            return self.start(&NativeModel::of_bundle(bundle)?, count, options);
        }
        let file = &bundle.model(variant)?.file;
        let path = bundle.verify(file)?;
        (0..count.get()).map(|_| self.session(&path, options)).collect()
    }

    /// Loads a native model from its files, which need not be part of a bundle.
    ///
    /// # Errors
    /// As [`sessions`](Self::sessions).
    pub fn native_sessions(
        &self,
        graph: &Path,
        weights: &Path,
        count: NonZeroUsize,
        options: SessionOptions,
    ) -> Result<Vec<Box<dyn Session>>, LoadError> {
        self.start(&NativeModel::of_files(graph, weights)?, count, options)
    }

    /// So many sessions of a native model, which share its weights.
    ///
    /// # Errors
    /// [`LoadError::Model`].
    pub fn start(
        &self,
        model: &NativeModel,
        count: NonZeroUsize,
        options: SessionOptions,
    ) -> Result<Vec<Box<dyn Session>>, LoadError> {
        model.sessions(&self.environment, self.kernels, count, options)
    }

    /// Loads a portable model from its file, which need not be part of a bundle.
    ///
    /// # Errors
    /// [`LoadError::Model`].
    pub fn session(&self, model: &Path, options: SessionOptions) -> Result<Box<dyn Session>, LoadError> {
        let session = PaddedSession::load(&self.environment, model, options)
            .map_err(|error| LoadError::Model { path: model.to_owned(), reason: error.to_string() })?;
        Ok(Box::new(session))
    }
}

fn available() -> Vec<&'static str> {
    InstructionSet::ALL.into_iter().filter(|set| set.is_available()).map(InstructionSet::name).collect()
}

/// Off the file's name (`libonnxruntime.so.1.32.0`, `libonnxruntime.1.32.0.dylib`), links followed: the library's own
/// build information does not hold it.
fn version_of(library: &Path) -> String {
    let file = std::fs::canonicalize(library).unwrap_or_else(|_| library.to_owned());
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let numbers: Vec<&str> = name.split('.').filter(|part| part.bytes().all(|byte| byte.is_ascii_digit())).collect();
    if numbers.is_empty() { "unknown".to_owned() } else { numbers.join(".") }
}

fn load_session(environment: &Environment, model: &Path, options: SessionOptions) -> ort::Result<OrtSession> {
    OrtSession::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.threads.get())?
        // A spinning thread takes a core from the server's own threads, and burns it when there is no work.
        .with_intra_op_spinning(false)?
        .commit_from_file(model)
}

/// A session of the portable graph: every text of a batch is padded to the longest.
struct PaddedSession {
    session: OrtSession,
    pooled_only: RunOptions<HasSelectedOutputs>,
}

impl PaddedSession {
    fn load(environment: &Environment, model: &Path, options: SessionOptions) -> ort::Result<Self> {
        let session = load_session(environment, model, options)?;
        let output = OutputSelector::no_default().with(graph_io::POOLED_EMBEDDING);
        let pooled_only = RunOptions::new()?.with_outputs(output);
        Ok(Self { session, pooled_only })
    }

    fn run(&mut self, ids: &Array2<i64>, mask: &Array2<i64>) -> ort::Result<Array2<f32>> {
        let inputs = ort::inputs![
            graph_io::INPUT_IDS => TensorRef::from_array_view(ids)?,
            graph_io::ATTENTION_MASK => TensorRef::from_array_view(mask)?,
        ];
        let outputs = self.session.run_with_options(inputs, &self.pooled_only)?;
        let pooled = outputs[graph_io::POOLED_EMBEDDING].try_extract_array::<f32>()?;
        pooled.into_dimensionality::<Ix2>().map(|pooled| pooled.to_owned()).map_err(ort::Error::wrap)
    }
}

impl Session for PaddedSession {
    fn infer(&mut self, batch: &[&TokenIds]) -> Result<Array2<f32>, InferenceError> {
        let (ids, mask) = pad(batch);
        self.run(&ids, &mask).map_err(|error| InferenceError(error.to_string()))
    }
}

/// A session of a portable graph whose float32 outputs are looked at, one text at a time.
pub struct Observer {
    session: OrtSession,
    names: Vec<String>,
}

impl Observer {
    /// Loads a model that has these outputs.
    ///
    /// # Errors
    /// [`LoadError::Model`].
    pub fn load(
        runtime: &OnnxRuntime,
        model: &Path,
        outputs: Vec<String>,
        options: SessionOptions,
    ) -> Result<Self, LoadError> {
        let session = load_session(&runtime.environment, model, options)
            .map_err(|error| LoadError::Model { path: model.to_owned(), reason: error.to_string() })?;
        Ok(Self { session, names: outputs })
    }

    /// The outputs for one text, each row-major, in the order in which they were named.
    ///
    /// # Errors
    /// [`InferenceError`].
    pub fn observe(&mut self, text: &TokenIds) -> Result<Vec<Vec<f32>>, InferenceError> {
        self.run(text).map_err(|error| InferenceError(error.to_string()))
    }

    fn run(&mut self, text: &TokenIds) -> ort::Result<Vec<Vec<f32>>> {
        let (ids, mask) = pad(&[text]);
        let inputs = ort::inputs![
            graph_io::INPUT_IDS => TensorRef::from_array_view(&ids)?,
            graph_io::ATTENTION_MASK => TensorRef::from_array_view(&mask)?,
        ];
        let outputs = self.session.run(inputs)?;
        self.names.iter().map(|name| Ok(outputs[name.as_str()].try_extract_tensor::<f32>()?.1.to_vec())).collect()
    }
}

/// Token ids and mask, both `[texts, longest text]`. The mask is what tells padding, so its id does not matter.
fn pad(batch: &[&TokenIds]) -> (Array2<i64>, Array2<i64>) {
    let longest = batch.iter().map(|text| text.len()).max().unwrap_or(0);
    let mut ids = Array2::zeros((batch.len(), longest));
    let mut mask = Array2::zeros((batch.len(), longest));
    for (row, text) in batch.iter().enumerate() {
        for (column, &id) in text.as_slice().iter().enumerate() {
            ids[[row, column]] = i64::from(id);
            mask[[row, column]] = 1;
        }
    }
    (ids, mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_padded_to_the_longest_of_their_batch() {
        let (short, long) = (TokenIds::new([5, 6]), TokenIds::new([1, 2, 3]));
        let (ids, mask) = pad(&[&short, &long]);
        assert_eq!(ids, ndarray::array![[5, 6, 0], [1, 2, 3]]);
        assert_eq!(mask, ndarray::array![[1, 1, 0], [1, 1, 1]]);
    }

    #[test]
    fn the_version_is_read_off_the_file_name() {
        assert_eq!(version_of(Path::new("x/libonnxruntime.so.1.32.0")), "1.32.0");
        assert_eq!(version_of(Path::new("x/libonnxruntime.1.32.0.dylib")), "1.32.0");
        assert_eq!(version_of(Path::new("libonnxruntime.so")), "unknown");
    }
}
