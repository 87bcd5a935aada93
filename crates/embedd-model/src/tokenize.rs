//! From text to token ids, as the model's own tokeniser makes them.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::bundle::{Bundle, BundleError, TOKENIZER_FILE};
use crate::engine::TokenIds;

mod lowercase;

/// A bundle's tokeniser, and the number of tokens that texts are cut to.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Special tokens before and after those of every text.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    max_tokens: usize,
    lowercase: bool,
}

/// What happens to a text of more tokens than the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Truncation {
    /// Tokens are dropped from the end.
    #[default]
    End,
    /// Tokens are dropped from the start.
    Start,
    /// The request is refused.
    Reject,
}

/// A text as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokenized {
    /// Special tokens included.
    pub ids: TokenIds,
    /// Whether tokens were dropped.
    pub truncated: bool,
}

/// A token, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its place in the vocabulary.
    pub id: u32,
    /// The part of the text that it stands for; the token's name where there is none.
    pub text: String,
    /// Where that part is, in bytes; `None`: the token is special, the model wants it there.
    pub bytes: Option<Range<usize>>,
}

/// Why a tokeniser could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The bundle's file is missing or damaged.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The file is no tokeniser that can be used.
    #[error("{path}: {reason}")]
    Invalid {
        /// The tokenizer.json.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// More tokens were asked for than the model has positions, or than special tokens leave room for.
    #[error("max-tokens is {asked}, but the model `{model}` takes {least} to {most}")]
    MaxTokens {
        /// What was asked for.
        asked: u32,
        /// The model's name.
        model: String,
        /// The special tokens and one more.
        least: u32,
        /// The model's positions.
        most: u32,
    },
}

/// Why a text could not be tokenised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizeError {
    /// It has more tokens than the model takes, and must not be cut.
    #[error("has {tokens} tokens; the model takes at most {max}, and truncation is refused")]
    TooLong {
        /// Its tokens, special tokens included.
        tokens: usize,
        /// The most that are taken.
        max: usize,
    },
    /// The tokeniser failed.
    #[error("cannot be tokenised: {0}")]
    Failed(String),
}

/// The tokeniser could not turn ids into a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ids cannot be turned into a text: {0}")]
pub struct DecodeError(String);

impl Tokenizer {
    /// The bundle's tokeniser; `max_tokens` instead of the model's own maximum where it is given.
    ///
    /// # Errors
    /// [`TokenizerError`].
    pub fn load(bundle: &Bundle, max_tokens: Option<u32>) -> Result<Self, TokenizerError> {
        let (path, manifest) = (bundle.verify(TOKENIZER_FILE)?, bundle.manifest());
        let asked = max_tokens.unwrap_or(manifest.max_tokens);
        let tokenizer = Self::read(&path, asked, manifest.lowercase)?;
        let least = (tokenizer.special_count() + 1) as u32;
        if !(least..=manifest.position_limit).contains(&asked) {
            let (model, most) = (manifest.name.clone(), manifest.position_limit);
            return Err(TokenizerError::MaxTokens { asked, model, least, most });
        }
        Ok(tokenizer)
    }

    /// The tokeniser of a file, which cuts texts to `max_tokens`.
    ///
    /// # Errors
    /// [`TokenizerError::Invalid`].
    pub fn read(path: &Path, max_tokens: u32, lowercase: bool) -> Result<Self, TokenizerError> {
        let invalid = |reason: String| TokenizerError::Invalid { path: path.to_owned(), reason };
        let mut inner = tokenizers::Tokenizer::from_file(path).map_err(|error| invalid(error.to_string()))?;
        // The file's own truncation and padding are for training.
        inner.with_truncation(None).map_err(|error| invalid(error.to_string()))?;
        inner.with_padding(None);
        let (prefix, suffix) = special_tokens(&inner).map_err(invalid)?;
        let max_tokens = (max_tokens as usize).max(prefix.len() + suffix.len());
        Ok(Self { inner, prefix, suffix, max_tokens, lowercase })
    }

    /// Tokens of a text at most, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The largest token id, special tokens included.
    pub fn max_id(&self) -> u32 {
        self.inner.get_vocab(true).into_values().max().unwrap_or(0)
    }

    /// The tokens that the model sees of a text.
    ///
    /// # Errors
    /// [`TokenizeError`].
    pub fn tokenize(&self, text: &str, truncation: Truncation) -> Result<Tokenized, TokenizeError> {
        let ids = self.encode(text)?;
        let room = self.max_tokens - self.special_count();
        let dropped = ids.len().saturating_sub(room);
        let kept = match truncation {
            _ if dropped == 0 => &ids[..],
            Truncation::End => &ids[..room],
            Truncation::Start => &ids[dropped..],
            Truncation::Reject => {
                let tokens = ids.len() + self.special_count();
                return Err(TokenizeError::TooLong { tokens, max: self.max_tokens });
            }
        };
        let ids = TokenIds::new([&self.prefix, kept, &self.suffix].concat());
        Ok(Tokenized { ids, truncated: dropped > 0 })
    }

    /// Tokens of the whole text, special tokens included.
    ///
    /// # Errors
    /// [`TokenizeError::Failed`].
    pub fn count(&self, text: &str) -> Result<usize, TokenizeError> {
        Ok(self.encode(text)?.len() + self.special_count())
    }

    /// The tokens of the whole text, with special tokens around them where those are wanted.
    ///
    /// # Errors
    /// [`TokenizeError::Failed`].
    pub fn tokens(&self, text: &str, special_wanted: bool) -> Result<Vec<Token>, TokenizeError> {
        let lower = self.lowercase.then(|| text.to_lowercase());
        let encoding = self.inner.encode(lower.as_deref().unwrap_or(text), special_wanted);
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

    /// The text that tokens make, without the names of special tokens where those are not wanted. Ids that the
    /// vocabulary does not have are passed over.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(&self, ids: &[u32], special_wanted: bool) -> Result<String, DecodeError> {
        self.inner.decode(ids, !special_wanted).map_err(|error| DecodeError(error.to_string()))
    }

    fn special_count(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    /// Without special tokens.
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

/// What the tokeniser puts before and after a text, found on a text of its own.
fn special_tokens(tokenizer: &tokenizers::Tokenizer) -> Result<(Vec<u32>, Vec<u32>), String> {
    let encode = |special| {
        let encoding = tokenizer.encode_fast("text", special).map_err(|error| error.to_string())?;
        Ok::<_, String>(encoding.get_ids().to_vec())
    };
    let (bare, whole) = (encode(false)?, encode(true)?);
    let start = whole
        .windows(bare.len())
        .position(|window| window == bare)
        .ok_or_else(|| "its special tokens do not surround a text".to_owned())?;
    Ok((whole[..start].to_vec(), whole[start + bare.len()..].to_vec()))
}

#[cfg(test)]
mod tests;
