//! Reads tensors from a safetensors file, one at a time, so that the model need not fit in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use embedd_common::files::open_regular;

/// The size in bytes of the header's length, a little-endian u64 at the start of the file.
const LENGTH_BYTES: u64 = 8;
/// The header of an encoder with a thousand tensors has 100 kB. The format allows 100 MB, which take many times as much
/// memory when they are parsed.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// An open safetensors file whose header matches its length.
#[derive(Debug)]
pub(crate) struct Weights {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    data_start: u64,
}

/// A floating-point tensor of the file, read on demand.
#[derive(Debug, Clone)]
pub(crate) struct Tensor<'w> {
    weights: &'w Weights,
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    /// From the start of the file.
    offset: u64,
    bytes: usize,
}

/// Why weights could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file could not be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// The safetensors file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
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
    /// The file is not a safetensors file, or its header is inconsistent.
    #[error("{path} is not a valid safetensors file: {reason}; fetch the model again")]
    Malformed {
        /// The safetensors file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// A tensor that the architecture needs is missing.
    #[error("{path} has no tensor `{tensor}` (expected with shape {expected:?}){hint}")]
    Missing {
        /// The safetensors file.
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
        /// The safetensors file.
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
    #[error("{path}: tensor `{tensor}` has type {dtype:?}; expected F32, F16 or BF16")]
    Type {
        /// The safetensors file.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// The element type in the file.
        dtype: Dtype,
    },
    /// A tensor contains NaN or infinity.
    #[error("{path}: tensor `{tensor}` has a non-finite value (element {index}); the weights are damaged")]
    NotFinite {
        /// The safetensors file.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// Index of the first such value, in row-major order.
        index: usize,
    },
}

impl Weights {
    /// Opens a file and checks its header against its length.
    ///
    /// # Errors
    /// [`WeightsError::Io`], [`WeightsError::Truncated`] or [`WeightsError::Malformed`].
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        let io = |source| WeightsError::Io { path: path.to_owned(), source };
        let malformed = |reason: String| WeightsError::Malformed { path: path.to_owned(), reason };
        let file = open_regular(path).map_err(io)?;
        let actual = file.metadata().map_err(io)?.len();
        if actual < LENGTH_BYTES {
            return Err(malformed(format!("its {actual} bytes are too few for a header")));
        }
        let mut length = [0; LENGTH_BYTES as usize];
        file.read_exact_at(&mut length, 0).map_err(io)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES {
            return Err(malformed(format!("a header of {length} bytes is too long")));
        }
        let data_start = LENGTH_BYTES + length;
        if actual < data_start {
            return Err(WeightsError::Truncated { path: path.to_owned(), expected: data_start, actual });
        }
        // At most MAX_HEADER_BYTES, checked above.
        let mut header = vec![0; length as usize];
        file.read_exact_at(&mut header, LENGTH_BYTES).map_err(io)?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| malformed(error.to_string()))?;
        let expected = data_start.saturating_add(metadata.data_len() as u64);
        match actual.cmp(&expected) {
            std::cmp::Ordering::Less => Err(WeightsError::Truncated { path: path.to_owned(), expected, actual }),
            std::cmp::Ordering::Greater => {
                Err(malformed(format!("{} bytes follow the last tensor", actual - expected)))
            }
            std::cmp::Ordering::Equal => Ok(Self { path: path.to_owned(), file, metadata, data_start }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, in the order of the file.
    pub(crate) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// A required tensor with this shape. Errors name `because` as the source of the shape.
    ///
    /// # Errors
    /// [`WeightsError::Missing`], [`WeightsError::Shape`] or [`WeightsError::Type`].
    pub(crate) fn tensor(&self, name: &str, shape: &[usize], because: &str) -> Result<Tensor<'_>, WeightsError> {
        let path = || self.path.clone();
        let Some(info) = self.metadata.info(name) else {
            let hint = self.nearest(name).map_or_else(String::new, |near| format!("; it has `{near}`"));
            return Err(WeightsError::Missing {
                path: path(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                hint,
            });
        };
        if info.shape != shape {
            return Err(WeightsError::Shape {
                path: path(),
                tensor: name.to_owned(),
                actual: info.shape.clone(),
                expected: shape.to_vec(),
                because: because.to_owned(),
            });
        }
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(WeightsError::Type { path: path(), tensor: name.to_owned(), dtype: info.dtype });
        }
        let (start, end) = info.data_offsets;
        Ok(Tensor {
            weights: self,
            name: name.to_owned(),
            shape: info.shape.clone(),
            dtype: info.dtype,
            offset: self.data_start + start as u64,
            bytes: end - start,
        })
    }

    /// The tensor whose name shares the longest suffix with `name`: it reveals an unexpected prefix.
    fn nearest(&self, name: &str) -> Option<String> {
        let shared = |other: &str| name.bytes().rev().zip(other.bytes().rev()).take_while(|(a, b)| a == b).count();
        self.names().into_iter().max_by_key(|other| shared(other)).filter(|other| shared(other) > 8)
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Weights {
    /// Reads every tensor by its own shape, and checks that its values match it.
    pub(crate) fn read_all(&self) {
        for name in self.names() {
            let shape = self.metadata.info(&name).map(|info| info.shape.clone()).unwrap_or_default();
            let values = self.tensor(&name, &shape, "the file").and_then(|tensor| tensor.read());
            if let Ok(values) = values {
                assert_eq!(values.len(), shape.iter().product::<usize>());
            }
        }
    }
}

impl Tensor<'_> {
    /// The dimensions, outermost first.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values in row-major order.
    ///
    /// # Errors
    /// [`WeightsError::Io`] or [`WeightsError::NotFinite`].
    pub(crate) fn read(&self) -> Result<Vec<f32>, WeightsError> {
        let path = || self.weights.path.clone();
        let mut bytes = vec![0; self.bytes];
        self.weights
            .file
            .read_exact_at(&mut bytes, self.offset)
            .map_err(|source| WeightsError::Io { path: path(), source })?;
        let values = decode(&bytes, self.dtype);
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(WeightsError::NotFinite { path: path(), tensor: self.name.clone(), index }),
            None => Ok(values),
        }
    }
}

/// Decodes values of one of the three types that [`Weights::tensor`] accepts.
fn decode(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    let pairs = || bytes.as_chunks::<2>().0.iter().copied();
    match dtype {
        Dtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        _ => bytes.as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect(),
    }
}

#[cfg(test)]
#[path = "weights/tests.rs"]
mod tests;
