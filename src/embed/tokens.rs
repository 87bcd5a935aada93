//! Texts and tokens, without the model.

use super::{EmbedError, Embedder, INLINE_TOKENIZE_BYTES, beside_others, each_text, without_blocking};
use crate::request::Texts;
use embedd_model::tokenize::{DecodeError, Token, TokenizeError};

/// How many tokens a text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenCount {
    /// Of the whole text, special tokens included.
    pub tokens: usize,
    /// Whether that is more than the model takes.
    pub exceeds_max: bool,
}

impl Embedder {
    /// Counts the tokens of each text.
    ///
    /// # Errors
    /// [`EmbedError::Text`].
    pub(crate) fn count_tokens(&self, texts: &Texts) -> Result<Vec<TokenCount>, EmbedError> {
        of_each(texts, |text| {
            let tokens = self.tokenizer.count(text)?;
            Ok(TokenCount { tokens, exceeds_max: tokens > self.tokenizer.max_tokens() })
        })
    }

    /// The tokens of each whole text, special tokens included where those are wanted.
    ///
    /// # Errors
    /// [`EmbedError::Text`].
    pub(crate) fn tokens(&self, texts: &Texts, special_wanted: bool) -> Result<Vec<Vec<Token>>, EmbedError> {
        of_each(texts, |text| self.tokenizer.tokens(text, special_wanted))
    }

    /// The text that token ids make, without the names of special tokens where those are not wanted. Ids that the
    /// vocabulary does not have are passed over.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub(crate) fn decode(&self, ids: &[u32], special_wanted: bool) -> Result<String, DecodeError> {
        beside_others(size_of_val(ids) > INLINE_TOKENIZE_BYTES, || self.tokenizer.decode(ids, special_wanted))
    }
}

fn of_each<T>(texts: &Texts, work: impl FnMut(&str) -> Result<T, TokenizeError>) -> Result<Vec<T>, EmbedError> {
    let texts = texts.as_slice();
    without_blocking(texts, || each_text(texts.iter().map(String::as_str).enumerate(), work))
}
