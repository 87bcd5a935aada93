//! What runs the model: the traits that serving knows, and ONNX Runtime behind them.

use std::num::NonZeroUsize;

use ndarray::Array2;

mod choice;
mod error;
mod native;
mod onnx_runtime;
mod padded;

pub use choice::fastest_first;
pub use error::LoadError;
pub use onnx_runtime::OnnxRuntime;
pub use padded::Observer;

/// Token ids of one text, special tokens included: what a session takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenIds(Box<[u32]>);

/// How a session runs.
#[derive(Debug, Clone, Copy)]
pub struct SessionOptions {
    /// Threads that share the work of one batch.
    pub threads: NonZeroUsize,
}

/// One copy of the model that can run one batch at a time.
pub trait Session: Send {
    /// The pooled embeddings of the texts, not normalised: `[texts, dimension]`, in their order.
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
    /// At least one id; the tokeniser's special tokens see to that.
    pub fn new(ids: impl Into<Box<[u32]>>) -> Self {
        Self(ids.into())
    }

    /// The ids.
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// How many there are.
    #[allow(clippy::len_without_is_empty, reason = "a text always has its special tokens")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
