//! Engines: the session trait that the server uses, and its implementations on ONNX Runtime.

use std::num::NonZeroUsize;

use ndarray::Array2;

mod choice;
mod error;
mod external_data;
mod native;
mod onnx_runtime;
mod padded;

pub use choice::fastest_first;
pub use error::LoadError;
pub use onnx_runtime::OnnxRuntime;
pub use padded::Observer;

/// The token ids of one text, including special tokens: the input of a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenIds(Box<[u32]>);

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
        Self(ids.into())
    }

    /// The ids, in the order of the tokens.
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// The number of tokens.
    #[allow(clippy::len_without_is_empty, reason = "every text has special tokens")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
