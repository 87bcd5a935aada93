//! Why the library or a model could not be loaded.

use std::path::PathBuf;

use crate::bundle::BundleError;
use embedd_kernels::InstructionSet;

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

fn available() -> Vec<&'static str> {
    InstructionSet::ALL.into_iter().filter(|set| set.is_available()).map(InstructionSet::name).collect()
}
