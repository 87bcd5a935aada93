//! Errors from loading the ONNX Runtime library or a model.

use std::path::PathBuf;

use crate::bundle::BundleError;
use embedd_kernels::InstructionSet;

/// Why the ONNX Runtime library or a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages explain the fields")]
pub enum LoadError {
    /// The shared library is missing or is not ONNX Runtime.
    #[error(
        "cannot load ONNX Runtime from {path}: {reason}; download it with `embedd fetch`, or pass the path of another \
         copy with --onnxruntime"
    )]
    Library { path: PathBuf, reason: String },
    /// A file of the bundle is missing or damaged.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The weights of a native model do not match its graph.
    #[error("cannot use the native model's weights in {path}: {reason}")]
    Weights { path: PathBuf, reason: String },
    /// This CPU does not support the requested instruction set.
    #[error(
        "this CPU does not support {asked} (--instruction-set); it supports: {}; `auto` selects the fastest",
        available().join(", ")
    )]
    InstructionSet { asked: InstructionSet },
    /// ONNX Runtime rejects the model.
    #[error("ONNX Runtime cannot load the model {path}: {reason}")]
    Model { path: PathBuf, reason: String },
}

fn available() -> Vec<&'static str> {
    InstructionSet::ALL.into_iter().filter(|set| set.is_available()).map(InstructionSet::name).collect()
}
