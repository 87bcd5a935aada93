//! Reads and checks the configuration files of a sentence-transformers folder.

use std::io;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use embedd_common::files::read_bounded;
use embedd_model::bundle::Pooling;

mod limit;
mod pooling;
mod settings;

/// The file with the weights.
pub(crate) const WEIGHTS_FILE: &str = "model.safetensors";
/// Files that are copied into the bundle, and whether they are required.
pub(crate) const COPIED_FILES: [(&str, bool); 4] = [
    ("config.json", true),
    ("tokenizer.json", true),
    (TOKENIZER_CONFIG_FILE, false),
    ("special_tokens_map.json", false),
];

/// The maximum size of a JSON file. The largest known tokenizers have 35 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

const MODULES_FILE: &str = "modules.json";
const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";
const SENTENCE_FILE: &str = "sentence_bert_config.json";
const TRANSFORMERS_FILE: &str = "config_sentence_transformers.json";

/// The configuration of a sentence-transformers folder.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) folder: PathBuf,
    pub(crate) config: ModelConfig,
    pub(crate) pooling: Pooling,
    /// The maximum number of tokens of a text, including special tokens; `None` if only the positions limit it.
    pub(crate) max_tokens: Option<u32>,
    /// Whether texts are lowercased before tokenization.
    pub(crate) lowercase: bool,
    /// The pooling's configuration file, relative to the folder.
    pooling_file: String,
}

/// The fields of `config.json` that determine the graph.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of the file")]
pub(crate) struct ModelConfig {
    pub(crate) model_type: String,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) vocab_size: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) layer_norm_eps: f32,
    pub(crate) hidden_act: String,
    #[serde(default)]
    pub(crate) type_vocab_size: usize,
    pub(crate) relative_attention_num_buckets: Option<usize>,
    pub(crate) position_embedding_type: Option<String>,
}

/// Why a folder cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file could not be read.
    #[error("{path}: {source}; a sentence-transformers folder must contain this file")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file is not valid JSON or lacks a field.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// The cause, with line and column.
        source: serde_json::Error,
    },
    /// A field has an impossible value.
    #[error("{path}: {field} is {value}, but {expected}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// What is expected, as the end of the sentence.
        expected: String,
    },
    /// A feature of sentence-transformers that embedd does not support.
    #[error("{path}: {what} is not supported; {instead}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The feature.
        what: String,
        /// What is supported instead, as the end of the sentence.
        instead: String,
    },
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Default, Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<f64>,
    #[serde(default)]
    do_lower_case: bool,
}

impl Source {
    /// Reads and checks the folder's configuration. Does not read the weights.
    ///
    /// # Errors
    /// [`SourceError`], with the file and the field.
    pub(crate) fn read(folder: &Path) -> Result<Self, SourceError> {
        let path = folder.join("config.json");
        let config: ModelConfig = read_json(&path)?;
        check_numbers(&path, &config)?;
        check_variants(&path, &config)?;
        let pooling_file = read_modules(folder)?;
        let pooling = pooling::read(&folder.join(&pooling_file), config.hidden_size)?;
        settings::reject_unsupported(folder, config.hidden_size)?;
        let sentence: SentenceConfig = read_optional_json(&folder.join(SENTENCE_FILE))?.unwrap_or_default();
        let max_tokens = limit::read(folder, sentence.max_seq_length)?;
        let lowercase = sentence.do_lower_case;
        Ok(Self { folder: folder.to_owned(), config, pooling, max_tokens, lowercase, pooling_file })
    }

    /// The path of one of the folder's files.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The existing files of the folder that the conversion depends on.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        let copied = COPIED_FILES.map(|(file, _)| file);
        let always = [WEIGHTS_FILE, MODULES_FILE, self.pooling_file.as_str()];
        let optional = [SENTENCE_FILE, TRANSFORMERS_FILE];
        always.into_iter().chain(copied).chain(optional).filter(|file| self.path(file).exists())
    }
}

fn check_numbers(path: &Path, config: &ModelConfig) -> Result<(), SourceError> {
    let wrong = |field: &str, value: String, expected: &str| SourceError::Value {
        path: path.to_owned(),
        field: field.to_owned(),
        value,
        expected: expected.to_owned(),
    };
    let sizes = [
        ("hidden_size", config.hidden_size),
        ("num_hidden_layers", config.num_hidden_layers),
        ("num_attention_heads", config.num_attention_heads),
        ("intermediate_size", config.intermediate_size),
        ("vocab_size", config.vocab_size),
        ("max_position_embeddings", config.max_position_embeddings),
    ];
    for (field, value) in sizes {
        if value == 0 || value > 1 << 24 {
            return Err(wrong(field, value.to_string(), "it must be from 1 to 16777216"));
        }
    }
    if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
        let heads = format!("it must be a multiple of num_attention_heads ({})", config.num_attention_heads);
        return Err(wrong("hidden_size", config.hidden_size.to_string(), &heads));
    }
    if !(config.layer_norm_eps > 0.0 && config.layer_norm_eps < 1.0) {
        return Err(wrong("layer_norm_eps", config.layer_norm_eps.to_string(), "it must be between 0 and 1"));
    }
    Ok(())
}

/// Rejects variants of the architectures that the graph does not implement.
fn check_variants(path: &Path, config: &ModelConfig) -> Result<(), SourceError> {
    let positions = config.position_embedding_type.as_deref().unwrap_or("absolute");
    let fields =
        [("hidden_act", config.hidden_act.as_str(), "gelu"), ("position_embedding_type", positions, "absolute")];
    match fields.into_iter().find(|(_, found, known)| found != known) {
        None => Ok(()),
        Some((field, found, known)) => Err(SourceError::Unsupported {
            path: path.to_owned(),
            what: format!("{field} `{found}`"),
            instead: format!("`{known}` is"),
        }),
    }
}

/// The modules must be a transformer, a pooling and optionally a normalization, in this order. Returns the pooling's
/// configuration file.
fn read_modules(folder: &Path) -> Result<String, SourceError> {
    let path = folder.join(MODULES_FILE);
    let modules: Vec<Module> = read_json(&path)?;
    let kinds: Vec<&str> =
        modules.iter().map(|module| module.kind.rsplit('.').next().unwrap_or(&module.kind)).collect();
    match kinds.as_slice() {
        ["Transformer", "Pooling"] | ["Transformer", "Pooling", "Normalize"] => {}
        _ => {
            return Err(SourceError::Unsupported {
                path,
                what: format!("the module chain {}", kinds.join(" -> ")),
                instead: "Transformer -> Pooling and Transformer -> Pooling -> Normalize are".to_owned(),
            });
        }
    }
    if !modules[0].path.is_empty() {
        return Err(SourceError::Unsupported {
            path,
            what: format!("a transformer in its own folder (`{}`)", modules[0].path),
            instead: "config.json and model.safetensors must be in the same folder as modules.json".to_owned(),
        });
    }
    let pooling = Path::new(&modules[1].path);
    if !pooling.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(SourceError::Unsupported {
            path,
            what: format!("a pooling in the folder `{}`", pooling.display()),
            instead: "its path must be relative to the model's folder and stay inside".to_owned(),
        });
    }
    Ok(pooling.join("config.json").to_string_lossy().into_owned())
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, SourceError> {
    let bytes =
        read_bounded(path, MAX_FILE_BYTES).map_err(|source| SourceError::Io { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| SourceError::Json { path: path.to_owned(), source })
}

fn read_optional_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, SourceError> {
    match read_json(path) {
        Err(SourceError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests;
