//! Rejects unsupported settings that change every embedding. Ignoring them would silently give wrong embeddings.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{SENTENCE_FILE, SourceError, TOKENIZER_CONFIG_FILE, TRANSFORMERS_FILE, read_optional_json};

/// Classes that build the normalizer from `tokenizer_config.json` and ignore the one in `tokenizer.json`.
const REBUILDING_CLASSES: [&str; 4] = ["BertTokenizer", "BertTokenizerFast", "MPNetTokenizer", "MPNetTokenizerFast"];

#[derive(Default, Deserialize)]
struct SentenceTransformers {
    default_prompt_name: Option<String>,
    truncate_dim: Option<usize>,
}

#[derive(Default, Deserialize)]
struct Transformer {
    transformer_task: Option<String>,
    module_output_name: Option<String>,
    processing_kwargs: Option<Map<String, Value>>,
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    tokenizer_class: Option<String>,
    do_lower_case: Option<bool>,
}

#[derive(Deserialize)]
struct Tokenizer {
    normalizer: Option<Normalizer>,
}

#[derive(Deserialize)]
struct Normalizer {
    lowercase: Option<bool>,
}

pub(super) fn reject_unsupported(folder: &Path, hidden_size: usize) -> Result<(), SourceError> {
    reject_prompt_and_truncation(&folder.join(TRANSFORMERS_FILE), hidden_size)?;
    reject_other_outputs(&folder.join(SENTENCE_FILE))?;
    reject_other_lowercase(folder)
}

fn reject_prompt_and_truncation(path: &Path, hidden_size: usize) -> Result<(), SourceError> {
    let config: SentenceTransformers = read_optional_json(path)?.unwrap_or_default();
    if let Some(name) = config.default_prompt_name {
        return Err(unsupported(
            path,
            format!("default_prompt_name `{name}`"),
            "remove it and prepend the prompt to the texts yourself",
        ));
    }
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

fn reject_other_lowercase(folder: &Path) -> Result<(), SourceError> {
    let path = folder.join(TOKENIZER_CONFIG_FILE);
    let config: TokenizerConfig = read_optional_json(&path)?.unwrap_or_default();
    let rebuilds = config.tokenizer_class.is_some_and(|class| REBUILDING_CLASSES.contains(&class.as_str()));
    let Some(configured) = config.do_lower_case.filter(|_| rebuilds) else { return Ok(()) };
    let tokenizer: Option<Tokenizer> = read_optional_json(&folder.join("tokenizer.json"))?;
    let normalizer = tokenizer.and_then(|tokenizer| tokenizer.normalizer);
    match normalizer.and_then(|normalizer| normalizer.lowercase) {
        Some(lowercase) if lowercase != configured => Err(SourceError::Value {
            path,
            field: "do_lower_case".to_owned(),
            value: configured.to_string(),
            expected: format!(
                "the normalizer in tokenizer.json has lowercase {lowercase}; transformers uses do_lower_case, so set \
                 lowercase in tokenizer.json to {configured}"
            ),
        }),
        _ => Ok(()),
    }
}

fn unsupported(path: &Path, what: String, instead: &str) -> SourceError {
    SourceError::Unsupported { path: path.to_owned(), what, instead: instead.to_owned() }
}
