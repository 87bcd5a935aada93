//! Why weights could not be read.

use std::io;
use std::path::PathBuf;

use safetensors::Dtype;

/// Why weights could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file could not be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// The file with the weights, or their index.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The folder has none of the known files.
    #[error("{folder} has no weights: expected {expected}")]
    NotFound {
        /// The model's folder.
        folder: PathBuf,
        /// The known files.
        expected: String,
    },
    /// The file was cloned without its contents.
    #[error("{path} is a Git LFS pointer, not the weights; run `git lfs pull` in its folder")]
    Pointer {
        /// The file.
        path: PathBuf,
    },
    /// The file is shorter than its header requires.
    #[error("{path} is truncated: it has {actual} bytes, but its header describes {expected}; fetch the model again")]
    Truncated {
        /// The safetensors file.
        path: PathBuf,
        /// Expected length in bytes.
        expected: u64,
        /// Actual length in bytes.
        actual: u64,
    },
    /// The file is not what its name says, or is inconsistent.
    #[error("{path} is not a valid {format}: {reason}; fetch the model again")]
    Malformed {
        /// The file with the weights, or their index.
        path: PathBuf,
        /// What the file should be, such as `safetensors file`.
        format: &'static str,
        /// The problem.
        reason: String,
    },
    /// The file is valid, but this reader does not support it.
    #[error("{path}: {reason}; save the model as safetensors")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported.
        reason: String,
    },
    /// The pickle in the file names a function or class that has nothing to do with tensors.
    #[error("{path} contains `{global}`, which is not a tensor; embedd reads tensors only and executes nothing")]
    Forbidden {
        /// The file.
        path: PathBuf,
        /// The function or class.
        global: String,
    },
    /// The index places a tensor in a file that does not have it.
    #[error("{path} has no tensor `{tensor}`, but {index} places it there; fetch the model again")]
    NotInShard {
        /// The file that should have the tensor.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// The index.
        index: PathBuf,
    },
    /// A tensor that the architecture needs is missing.
    #[error("{path} has no tensor `{tensor}` (expected with shape {expected:?}){hint}")]
    Missing {
        /// The file with the weights, or their index.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// The expected shape.
        expected: Vec<usize>,
        /// The tensor with the most similar name, if any.
        hint: String,
    },
    /// A tensor's shape does not match the configuration.
    #[error("{path}: tensor `{tensor}` has shape {actual:?}, but {because} requires {expected:?}")]
    Shape {
        /// The file with the tensor.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// The shape in the file.
        actual: Vec<usize>,
        /// The expected shape.
        expected: Vec<usize>,
        /// Where the expected shape comes from.
        because: String,
    },
    /// A tensor's element type is not supported.
    #[error("{path}: tensor `{tensor}` has type {dtype:?}; expected F64, F32, F16 or BF16")]
    Type {
        /// The file with the tensor.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// The element type in the file.
        dtype: Dtype,
    },
    /// A tensor contains NaN or infinity, or a value beyond the range of float32.
    #[error("{path}: tensor `{tensor}` has a non-finite value (element {index}); the weights are damaged")]
    NotFinite {
        /// The file with the tensor.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// Index of the first such value, in row-major order.
        index: usize,
    },
}
