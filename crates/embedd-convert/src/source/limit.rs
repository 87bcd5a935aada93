//! Reads the maximum number of tokens of a text, which a folder can set in two files.

use std::path::Path;

use serde::Deserialize;

use super::{SENTENCE_FILE, SourceError, TOKENIZER_CONFIG_FILE, read_optional_json};

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    /// Can be a float; 1e30 means "no limit".
    model_max_length: Option<f64>,
    /// The name of `model_max_length` in transformers 2.
    max_len: Option<f64>,
}

/// The limit that sentence-transformers uses, including special tokens; `None` if only the positions limit a text.
///
/// `max_seq_length` in `sentence_bert_config.json` overrides the tokenizer's limit, even if it is larger.
pub(crate) fn read(folder: &Path, max_seq_length: Option<f64>) -> Result<Option<u32>, SourceError> {
    let path = folder.join(TOKENIZER_CONFIG_FILE);
    let tokenizer: TokenizerConfig = read_optional_json(&path)?.unwrap_or_default();
    match (max_seq_length, tokenizer.model_max_length, tokenizer.max_len) {
        (Some(limit), _, _) => check(&folder.join(SENTENCE_FILE), "max_seq_length", limit),
        (None, Some(limit), _) => check(&path, "model_max_length", limit),
        (None, None, Some(limit)) => check(&path, "max_len", limit),
        (None, None, None) => Ok(None),
    }
}

/// A limit beyond any model's positions means "no limit".
fn check(path: &Path, field: &str, limit: f64) -> Result<Option<u32>, SourceError> {
    if limit > f64::from(u32::MAX) {
        return Ok(None);
    }
    if limit >= 1.0 && limit.fract() == 0.0 {
        return Ok(Some(limit as u32));
    }
    Err(SourceError::Value {
        path: path.to_owned(),
        field: field.to_owned(),
        value: limit.to_string(),
        expected: "it must be a whole number of at least 1".to_owned(),
    })
}
