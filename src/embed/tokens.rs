//! Token counts, tokens and decoding: requests that need no inference.

use super::{EmbedError, Embedder, INLINE_TOKENIZE_BYTES, block_in_place_if, each_text, without_blocking};
use crate::request::Texts;
use embedd_model::tokenize::{DecodeError, Token, TokenizeError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenCount {
    /// Tokens of the whole text, including special tokens.
    pub tokens: usize,
    /// Whether the model would truncate the text.
    pub exceeds_max: bool,
}

impl Embedder {
    /// # Errors
    /// [`EmbedError::Text`].
    pub(crate) fn count_tokens(&self, texts: &Texts) -> Result<Vec<TokenCount>, EmbedError> {
        map_texts(texts, |text| {
            let tokens = self.tokenizer.count(text)?;
            Ok(TokenCount { tokens, exceeds_max: tokens > self.tokenizer.max_tokens() })
        })
    }

    /// The tokens of each text, not truncated.
    ///
    /// # Errors
    /// [`EmbedError::Text`].
    pub(crate) fn tokens(&self, texts: &Texts, with_special_tokens: bool) -> Result<Vec<Vec<Token>>, EmbedError> {
        map_texts(texts, |text| self.tokenizer.tokens(text, with_special_tokens))
    }

    /// Turns token ids back into text. Ids that are not in the vocabulary are ignored.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub(crate) fn decode(&self, ids: &[u32], with_special_tokens: bool) -> Result<String, DecodeError> {
        let is_long = size_of_val(ids) > INLINE_TOKENIZE_BYTES;
        block_in_place_if(is_long, || self.tokenizer.decode(ids, with_special_tokens))
    }
}

fn map_texts<T>(texts: &Texts, map: impl FnMut(&str) -> Result<T, TokenizeError>) -> Result<Vec<T>, EmbedError> {
    let texts = texts.as_slice();
    without_blocking(texts, || each_text(texts.iter().map(String::as_str).enumerate(), map))
}
