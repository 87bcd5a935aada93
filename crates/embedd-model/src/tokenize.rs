//! Tokenization with the model's own tokenizer.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::bundle::{Bundle, BundleError, TOKENIZER_FILE};
use crate::engine::TokenIds;
use embedd_common::files::read_bounded;

mod lowercase;

/// The largest known tokenizers, with 250,000 tokens, have 35 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// A bundle's tokenizer, with the maximum number of tokens per text.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Special tokens before and after the tokens of every text.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    max_tokens: usize,
    lowercase: bool,
}

/// What to do with a text that has more tokens than the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Truncation {
    /// Drop tokens from the end.
    #[default]
    End,
    /// Drop tokens from the start.
    Start,
    /// Reject the text.
    Reject,
}

/// A text as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokenized {
    /// The token ids, including special tokens.
    pub ids: TokenIds,
    /// Whether tokens were dropped.
    pub truncated: bool,
}

/// A token and its part of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The token's id in the vocabulary.
    pub id: u32,
    /// The token's part of the text; the token's name for special tokens.
    pub text: String,
    /// The byte range of that part; `None` for special tokens that the tokenizer adds.
    pub bytes: Option<Range<usize>>,
}

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

/// Why a text cannot be tokenized.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages explain the fields")]
pub enum TokenizeError {
    /// The text has too many tokens and may not be truncated.
    #[error("has {tokens} tokens; the maximum is {max}, and truncation is disabled")]
    TooLong { tokens: usize, max: usize },
    /// The tokenizer failed.
    #[error("cannot be tokenized: {0}")]
    Failed(String),
}

/// The tokenizer cannot decode ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ids cannot be decoded: {0}")]
pub struct DecodeError(String);

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
    pub(crate) fn parse(
        contents: &[u8],
        path: &Path,
        max_tokens: u32,
        lowercase: bool,
    ) -> Result<Self, TokenizerError> {
        let invalid = |reason: String| TokenizerError::Invalid { path: path.to_owned(), reason };
        // Some parsers of `tokenizers` panic instead of returning the error if a part of the file is not valid JSON.
        serde_json::from_slice::<serde_json::Value>(contents).map_err(|error| invalid(error.to_string()))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(contents).map_err(|error| invalid(error.to_string()))?;
        // The truncation and padding configured in the file are for training.
        inner.with_truncation(None).map_err(|error| invalid(error.to_string()))?;
        inner.with_padding(None);
        let (prefix, suffix) = special_tokens(&inner).map_err(invalid)?;
        let max_tokens = (max_tokens as usize).max(prefix.len() + suffix.len());
        Ok(Self { inner, prefix, suffix, max_tokens, lowercase })
    }

    /// The maximum number of tokens per text, including special tokens.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The largest token id, including special tokens.
    pub fn max_id(&self) -> u32 {
        self.inner.get_vocab(true).into_values().max().unwrap_or(0)
    }

    /// Tokenizes a text for the model: adds special tokens and truncates.
    ///
    /// # Errors
    /// [`TokenizeError`].
    pub fn tokenize(&self, text: &str, truncation: Truncation) -> Result<Tokenized, TokenizeError> {
        let ids = self.encode(text)?;
        let capacity = self.max_tokens - self.special_count();
        let dropped = ids.len().saturating_sub(capacity);
        let kept = match truncation {
            _ if dropped == 0 => &ids[..],
            Truncation::End => &ids[..capacity],
            Truncation::Start => &ids[dropped..],
            Truncation::Reject => {
                let tokens = ids.len() + self.special_count();
                return Err(TokenizeError::TooLong { tokens, max: self.max_tokens });
            }
        };
        let ids = TokenIds::new([&self.prefix, kept, &self.suffix].concat());
        Ok(Tokenized { ids, truncated: dropped > 0 })
    }

    /// The number of tokens of the whole text, including special tokens.
    ///
    /// # Errors
    /// [`TokenizeError::Failed`].
    pub fn count(&self, text: &str) -> Result<usize, TokenizeError> {
        Ok(self.encode(text)?.len() + self.special_count())
    }

    /// The tokens of the whole text, surrounded by special tokens if `with_special`.
    ///
    /// # Errors
    /// [`TokenizeError::Failed`].
    pub fn tokens(&self, text: &str, with_special: bool) -> Result<Vec<Token>, TokenizeError> {
        let lower = self.lowercase.then(|| text.to_lowercase());
        let encoding = self.inner.encode(lower.as_deref().unwrap_or(text), with_special);
        let encoding = encoding.map_err(|error| TokenizeError::Failed(error.to_string()))?;
        let origins = self.lowercase.then(|| lowercase::Origins::of(text));
        let tokens = encoding.get_ids().iter().zip(encoding.get_tokens());
        let places = encoding.get_offsets().iter().zip(encoding.get_special_tokens_mask());
        let found = tokens.zip(places).map(|((&id, name), (&(start, end), &special))| {
            if special == 1 {
                return Token { id, text: name.clone(), bytes: None };
            }
            let bytes = origins.as_ref().map_or(start..end, |origins| origins.range(start..end));
            let part = text.as_bytes().get(bytes.clone()).unwrap_or_default();
            Token { id, text: String::from_utf8_lossy(part).into_owned(), bytes: Some(bytes) }
        });
        Ok(found.collect())
    }

    /// Decodes ids to a text, which includes the names of special tokens if `with_special`. Ids outside the vocabulary
    /// are ignored.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(&self, ids: &[u32], with_special: bool) -> Result<String, DecodeError> {
        self.inner.decode(ids, !with_special).map_err(|error| DecodeError(error.to_string()))
    }

    fn special_count(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    /// The ids of the whole text, without special tokens.
    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        let failed = |error: tokenizers::Error| TokenizeError::Failed(error.to_string());
        let encoding = if self.lowercase {
            self.inner.encode_fast(text.to_lowercase(), false)
        } else {
            self.inner.encode_fast(text, false)
        };
        Ok(encoding.map_err(failed)?.get_ids().to_vec())
    }
}

/// The special tokens that the tokenizer adds before and after a text, determined from a sample text.
fn special_tokens(tokenizer: &tokenizers::Tokenizer) -> Result<(Vec<u32>, Vec<u32>), String> {
    let encode = |special| {
        let encoding = tokenizer.encode_fast("text", special).map_err(|error| error.to_string())?;
        Ok::<_, String>(encoding.get_ids().to_vec())
    };
    let bare = encode(false)?;
    let whole = encode(true)?;
    let start = whole
        .windows(bare.len())
        .position(|window| window == bare)
        .ok_or_else(|| "its special tokens do not surround the text".to_owned())?;
    Ok((whole[..start].to_vec(), whole[start + bare.len()..].to_vec()))
}

#[cfg(test)]
mod tests;
