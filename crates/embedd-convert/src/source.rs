//! Reads and checks the configuration files of a sentence-transformers folder.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::architecture;
use embedd_common::files::read_bounded;
use embedd_model::bundle::Pooling;

mod after_pooling;
mod config;
pub(crate) mod limit;
mod modules;
mod pooling;
mod prompts;
mod settings;

pub(crate) use after_pooling::{ModuleConfig, ModuleKind};
pub use config::DisentangledConfig;
pub(crate) use config::{LayerConfig, ModelConfig};
use modules::Modules;

/// Files that are copied into the bundle, and whether they are required.
pub(crate) const COPIED_FILES: [(&str, bool); 3] =
    [("config.json", true), (TOKENIZER_CONFIG_FILE, false), ("special_tokens_map.json", false)];

/// The maximum size of a JSON file. The largest known tokenizers have 35 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

pub(crate) const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";
const SENTENCE_FILE: &str = "sentence_bert_config.json";
const TRANSFORMERS_FILE: &str = "config_sentence_transformers.json";

/// The configuration of a sentence-transformers folder.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) folder: PathBuf,
    /// The transformer's folder, relative to `folder`; often empty.
    pub(crate) transformer: PathBuf,
    pub(crate) config: ModelConfig,
    pub(crate) pooling: Pooling,
    /// The modules after the pooling, without the normalization.
    pub(crate) modules: Vec<ModuleConfig>,
    /// The number of components to which embeddings are cut; `None`: they are not.
    pub(crate) truncation: Option<usize>,
    /// The maximum number of tokens of a text, including special tokens; `None` if only the positions limit it.
    max_tokens: Option<u32>,
    /// Whether sentence-transformers lowercases texts, whatever the tokenizer does.
    pub(crate) lowercase: bool,
    /// Texts that may be put in front of the texts to embed, by name.
    pub(crate) prompts: BTreeMap<String, String>,
    pub(crate) default_prompt: Option<String>,
    /// Whether the pooling ignores the tokens of a prompt.
    pub(crate) exclude_prompt: bool,
    /// The configuration files of the modules, relative to the folder.
    module_files: Vec<String>,
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
    /// The `model_type` is not supported.
    #[error("{path}: model_type `{model_type}` is not supported; supported types are {}", architecture::names())]
    Architecture {
        /// The config.json.
        path: PathBuf,
        /// The value of the field.
        model_type: String,
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
        let modules = Modules::read(folder)?;
        let transformer = folder.join(&modules.transformer);
        let config = ModelConfig::read(&transformer.join("config.json"))?;
        let pooling = match &modules.pooling {
            Some(file) => pooling::read(&folder.join(file), config.hidden_size)?,
            None => Pooling::mean(),
        };
        let pooled = pooling.modes().len() * config.hidden_size;
        let others = after_pooling::read(folder, &modules.others, pooled)?;
        let width = after_pooling::width(&others, pooled);
        settings::reject_other_outputs(&transformer.join(SENTENCE_FILE))?;
        let (prompts, default_prompt) = prompts::read(&folder.join(TRANSFORMERS_FILE))?;
        let exclude_prompt = match &modules.pooling {
            Some(file) => prompts::excluded_by(&folder.join(file))?,
            None => false,
        };
        let sentence: SentenceConfig = read_optional_json(&transformer.join(SENTENCE_FILE))?.unwrap_or_default();
        let max_tokens = limit::read(&transformer, sentence.max_seq_length)?;
        Ok(Self {
            folder: folder.to_owned(),
            config,
            pooling,
            max_tokens,
            lowercase: sentence.do_lower_case,
            prompts,
            default_prompt,
            exclude_prompt,
            truncation: settings::truncation(folder, width)?,
            module_files: modules.files().into_iter().chain(others.iter().map(|module| module.file.clone())).collect(),
            modules: others,
            transformer: modules.transformer,
        })
    }

    /// The number of components of an embedding.
    pub(crate) fn dimension(&self) -> usize {
        let pooled = self.pooling.modes().len() * self.config.hidden_size;
        self.truncation.unwrap_or_else(|| after_pooling::width(&self.modules, pooled))
    }

    /// The maximum number of tokens of a text, including special tokens: that of the folder, if the positions suffice.
    pub(crate) fn token_limit(&self) -> u32 {
        let positions = self.config.position_limit() as u32;
        self.max_tokens.unwrap_or(positions).min(positions)
    }

    /// The transformer's folder.
    pub(crate) fn transformer(&self) -> PathBuf {
        self.folder.join(&self.transformer)
    }

    /// The path of one of the transformer's files.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(&self.transformer).join(file)
    }

    /// The existing files that the conversion depends on, except the tokenizer's and the weights, relative to the folder.
    pub(crate) fn files(&self) -> impl Iterator<Item = String> {
        let of_transformer = COPIED_FILES.into_iter().map(|(file, _)| file).chain([SENTENCE_FILE]);
        let of_transformer = of_transformer.map(|file| self.relative(file));
        let modules = self.module_files.iter().cloned().chain([TRANSFORMERS_FILE.to_owned()]);
        modules.chain(of_transformer).filter(|file| self.folder.join(file).exists())
    }

    /// The path of one of the transformer's files, relative to the folder.
    pub(crate) fn relative(&self, file: &str) -> String {
        self.transformer.join(file).to_string_lossy().into_owned()
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, SourceError> {
    let bytes =
        read_bounded(path, MAX_FILE_BYTES).map_err(|source| SourceError::Io { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| SourceError::Json { path: path.to_owned(), source })
}

pub(crate) fn read_optional_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, SourceError> {
    match read_json(path) {
        Err(SourceError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests;
