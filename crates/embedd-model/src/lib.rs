//! A converted model in process: the bundle that conversion writes and serving reads, its tokenizer, the engines that run
//! it, and how accuracy is measured. [`Model`] is all of it in one value.

pub mod accuracy;
pub mod bundle;
pub mod engine;
mod model;
pub mod reference;
pub mod threads;
pub mod tokenize;
pub mod vector;

pub use engine::{OnnxRuntime, SessionOptions};
pub use model::{EmbedError, Model, OpenError};
