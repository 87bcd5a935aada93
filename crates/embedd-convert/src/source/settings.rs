//! Rejects unsupported settings that change every embedding. Ignoring them would silently give wrong embeddings.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{SENTENCE_FILE, SourceError, TRANSFORMERS_FILE, read_optional_json};

#[derive(Default, Deserialize)]
struct SentenceTransformers {
    truncate_dim: Option<usize>,
}

#[derive(Default, Deserialize)]
struct Transformer {
    transformer_task: Option<String>,
    module_output_name: Option<String>,
    processing_kwargs: Option<Map<String, Value>>,
}

pub(super) fn reject_unsupported(folder: &Path, transformer: &Path, hidden_size: usize) -> Result<(), SourceError> {
    reject_truncation(&folder.join(TRANSFORMERS_FILE), hidden_size)?;
    reject_other_outputs(&transformer.join(SENTENCE_FILE))
}

fn reject_truncation(path: &Path, hidden_size: usize) -> Result<(), SourceError> {
    let config: SentenceTransformers = read_optional_json(path)?.unwrap_or_default();
    match config.truncate_dim {
        Some(dimension) if dimension < hidden_size => Err(unsupported(
            path,
            format!("truncate_dim {dimension}"),
            "remove it and request that many dimensions in each call",
        )),
        _ => Ok(()),
    }
}

/// The pooling must receive the hidden states of the last layer, for texts that are tokenized with default settings.
fn reject_other_outputs(path: &Path) -> Result<(), SourceError> {
    let config: Transformer = read_optional_json(path)?.unwrap_or_default();
    let names = [
        ("transformer_task", config.transformer_task, "feature-extraction"),
        ("module_output_name", config.module_output_name, "token_embeddings"),
    ];
    for (field, found, supported) in names {
        if let Some(found) = found.filter(|found| found != supported) {
            return Err(unsupported(path, format!("{field} `{found}`"), &format!("`{supported}` is")));
        }
    }
    match config.processing_kwargs.unwrap_or_default().keys().next() {
        Some(first) => Err(unsupported(path, format!("processing_kwargs (`{first}`)"), "remove it")),
        None => Ok(()),
    }
}

fn unsupported(path: &Path, what: String, instead: &str) -> SourceError {
    SourceError::Unsupported { path: path.to_owned(), what, instead: instead.to_owned() }
}
