//! Engines: the session trait that the server uses, and its implementations on ONNX Runtime.

use std::num::NonZeroUsize;

use ndarray::Array2;

mod choice;
mod cuda;
mod device;
mod error;
mod external_data;
mod native;
mod onnx_runtime;
mod padded;

pub use cuda::{Gpu, GpuMemory};
pub use device::{Device, InvalidDevice};
pub use error::LoadError;
pub use onnx_runtime::OnnxRuntime;
pub use padded::Observer;

/// The token ids of one text, including special tokens: the input of a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenIds {
    ids: Box<[u32]>,
    excluded: usize,
}

/// Options of a session.
#[derive(Debug, Clone, Copy)]
pub struct SessionOptions {
    /// The number of threads that share the work of one batch.
    pub threads: NonZeroUsize,
}

/// An instance of the model that runs one batch at a time.
pub trait Session: Send {
    /// Computes the pooled, unnormalized embeddings: `[texts, dimension]`, in the order of the texts.
    ///
    /// # Errors
    /// [`InferenceError`]; the session stays usable.
    fn infer(&mut self, batch: &[&TokenIds]) -> Result<Array2<f32>, InferenceError>;
}

/// The model failed on a batch.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the model failed: {0}")]
pub struct InferenceError(pub String);

impl TokenIds {
    /// The ids of a text. There is at least one, because the tokenizer adds special tokens to every text.
    pub fn new(ids: impl Into<Box<[u32]>>) -> Self {
        Self { ids: ids.into(), excluded: 0 }
    }

    /// The same tokens, the first `excluded` of which are not pooled.
    #[must_use]
    pub fn with_excluded(self, excluded: usize) -> Self {
        Self { excluded: excluded.min(self.len()), ..self }
    }

    /// The ids, in the order of the tokens.
    pub fn as_slice(&self) -> &[u32] {
        &self.ids
    }

    /// The number of leading tokens that pooling must ignore: those of a prompt, if the model excludes prompts. All
    /// other layers process these tokens like any others. It is 0 to [`len`](Self::len).
    pub fn excluded(&self) -> usize {
        self.excluded
    }

    /// The number of tokens.
    #[allow(clippy::len_without_is_empty, reason = "every text has special tokens")]
    pub fn len(&self) -> usize {
        self.ids.len()
    }
}
