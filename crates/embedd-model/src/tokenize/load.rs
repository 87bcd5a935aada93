//! Loading a tokenizer.

use std::path::{Path, PathBuf};

use super::bert::Bert;
use super::pieces::Cuts;
use super::{AcceptedIds, Tokenizer, template};
use crate::bundle::{Bundle, BundleError, TOKENIZER_FILE};
use embedd_common::files::read_bounded;

/// The largest known tokenizers, with 250,000 tokens, have 35 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Why a tokenizer cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages explain the fields")]
pub enum TokenizerError {
    /// The tokenizer's file is missing or damaged.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The file is not a usable tokenizer.
    #[error("cannot load the tokenizer {path}: {reason}")]
    Invalid { path: PathBuf, reason: String },
    /// The requested maximum exceeds the model's positions, or leaves no space besides the special tokens.
    #[error("max-tokens is {asked}; the model `{model}` supports {min} to {max}")]
    MaxTokens { asked: u32, model: String, min: u32, max: u32 },
}

impl Tokenizer {
    /// Loads a bundle's tokenizer. `max_tokens` overrides the model's default maximum.
    ///
    /// # Errors
    /// [`TokenizerError`].
    pub fn load(bundle: &Bundle, max_tokens: Option<u32>) -> Result<Self, TokenizerError> {
        let contents = bundle.read_small(TOKENIZER_FILE)?;
        let manifest = bundle.manifest();
        let asked = max_tokens.unwrap_or(manifest.max_tokens);
        let path = bundle.folder().join(TOKENIZER_FILE);
        let tokenizer = Self::parse(&contents, &path, asked, manifest.lowercase)?;
        let min = (tokenizer.special_count() + 1) as u32;
        if !(min..=manifest.position_limit).contains(&asked) {
            let model = manifest.name.clone();
            return Err(TokenizerError::MaxTokens { asked, model, min, max: manifest.position_limit });
        }
        Ok(tokenizer)
    }

    /// Loads a tokenizer from a file, with a maximum of `max_tokens` tokens per text.
    ///
    /// # Errors
    /// [`TokenizerError::Invalid`].
    pub fn read(path: &Path, max_tokens: u32, lowercase: bool) -> Result<Self, TokenizerError> {
        let invalid = |reason: String| TokenizerError::Invalid { path: path.to_owned(), reason };
        let contents = read_bounded(path, MAX_FILE_BYTES).map_err(|error| invalid(error.to_string()))?;
        Self::parse(&contents, path, max_tokens, lowercase)
    }

    /// Loads a tokenizer from the contents of a file; `path` is used in error messages.
    ///
    /// # Errors
    /// [`TokenizerError::Invalid`].
    pub fn parse(contents: &[u8], path: &Path, max_tokens: u32, lowercase: bool) -> Result<Self, TokenizerError> {
        let invalid = |reason: String| TokenizerError::Invalid { path: path.to_owned(), reason };
        // Some parsers of `tokenizers` panic instead of returning the error if a part of the file is not valid JSON.
        let file: serde_json::Value = serde_json::from_slice(contents).map_err(|error| invalid(error.to_string()))?;
        template::check(&file["post_processor"]).map_err(invalid)?;
        let unknown_id = file["model"]["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok());
        let unknown_token = file["model"]["unk_token"].as_str().map(str::to_owned);
        drop(file);
        let mut inner = tokenizers::Tokenizer::from_bytes(contents).map_err(|error| invalid(error.to_string()))?;
        // The truncation and padding configured in the file are for training.
        inner.with_truncation(None).map_err(|error| invalid(error.to_string()))?;
        inner.with_padding(None);
        let (prefix, suffix) = template::special_tokens(&inner).map_err(invalid)?;
        let max_tokens = (max_tokens as usize).max(prefix.len() + suffix.len());
        let unknown = unknown_id.or_else(|| inner.token_to_id(&unknown_token?));
        let bert = Bert::of(&inner);
        let cuts = Cuts::of(&inner);
        let accepted_ids = AcceptedIds::default();
        Ok(Self { inner, bert, cuts, prefix, suffix, unknown, max_tokens, lowercase, accepted_ids })
    }
}
