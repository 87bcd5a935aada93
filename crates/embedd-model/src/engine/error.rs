//! Errors from loading the ONNX Runtime library or a model.

use std::path::PathBuf;

use super::Device;
use crate::bundle::{BundleError, Variant};
use embedd_common::checksum::Sha256Hex;
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
    /// The library is not the one that was fetched.
    #[error(
        "{path} was not loaded: it is not the ONNX Runtime library that this version of embedd fetches (expected sha256 \
         {expected}, found {found}). Someone may have replaced it; `embedd fetch --verify` fetches it again"
    )]
    ChangedLibrary { path: PathBuf, expected: Sha256Hex, found: Sha256Hex },
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
    /// The GPU cannot be used, or its libraries cannot be loaded.
    #[error("cannot run models on {device}: {reason}")]
    Device { device: Device, reason: String },
    /// GPUs do not run this engine.
    #[error("{device} does not run the {engine} engine, which is for CPUs; GPUs run fp16 and fp32")]
    NotOnDevice { device: Device, engine: Variant },
    /// ONNX Runtime rejects the model.
    #[error("ONNX Runtime cannot load the model {path}: {reason}")]
    Model { path: PathBuf, reason: String },
}

fn available() -> Vec<&'static str> {
    InstructionSet::ALL.into_iter().filter(|set| set.is_available()).map(InstructionSet::name).collect()
}
