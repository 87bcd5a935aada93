//! Rejects unsupported settings that change every embedding. Ignoring them would silently give wrong embeddings.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{SourceError, TRANSFORMERS_FILE, read_optional_json};

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

/// The number of components to which sentence-transformers cuts embeddings of `width` components, if fewer.
pub(super) fn truncation(folder: &Path, width: usize) -> Result<Option<usize>, SourceError> {
    let path = folder.join(TRANSFORMERS_FILE);
    let config: SentenceTransformers = read_optional_json(&path)?.unwrap_or_default();
    match config.truncate_dim {
        Some(0) => Err(SourceError::Value {
            path,
            field: "truncate_dim".to_owned(),
            value: "0".to_owned(),
            expected: "it must be at least 1".to_owned(),
        }),
        components => Ok(components.filter(|&components| components < width)),
    }
}

/// The pooling must receive the hidden states of the last layer, for texts that are tokenized with default settings.
pub(super) fn reject_other_outputs(path: &Path) -> Result<(), SourceError> {
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
