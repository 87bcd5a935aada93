//! A converted model in process: the bundle that conversion writes and the server reads, its tokenizer, the engines
//! that run it, and accuracy measurement. [`Model`] combines them in one value.

pub mod accuracy;
pub mod bundle;
pub mod engine;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod model;
pub mod native;
mod prompts;
pub mod reference;
pub mod threads;
pub mod tokenize;
pub mod vector;

pub use engine::{OnnxRuntime, SessionOptions};
pub use model::{EmbedError, Model, OpenError};
pub use prompts::{PromptChoice, Prompts, UnknownPrompt};
