//! The Open Inference Protocol (v2) of KServe and Triton, whose messages are those of `inference`: validation of requests,
//! and replies. gRPC carries the messages as they are, and HTTP as JSON with binary tensors.

use crate::embed::Embedder;
use crate::request::quoted;

mod read;
mod tensor;
mod write;

pub(crate) use read::infer;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use read::read_tensors;
pub(crate) use tensor::TEXT;
use write::VERSION;
pub(crate) use write::{ReplyForm, inferred, metadata, server};

/// Checks the name and version of a model.
///
/// # Errors
/// A message that names the unknown model or version.
pub(crate) fn check_model(name: &str, version: &str, embedder: &Embedder) -> Result<(), String> {
    embedder.model().names.check(name).map_err(|error| error.to_string())?;
    if !["", VERSION].contains(&version) {
        let (name, version) = (quoted(name), quoted(version));
        return Err(format!("{name} has no version {version}; this server has version `{VERSION}`"));
    }
    Ok(())
}
