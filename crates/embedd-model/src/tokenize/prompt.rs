//! Prompts: texts that are put in front of the texts to embed.

use super::{TokenizeError, Tokenizer, Truncation};

/// A text in front of others, as the tokenizer that made it tokenizes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    text: String,
    /// The number of tokens that pooling ignores.
    excluded: usize,
}

impl Prompt {
    /// A prompt whose tokens are pooled like those of the text.
    pub fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), excluded: 0 }
    }

    /// The text; it may be empty.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn is_excluded(&self) -> bool {
        self.excluded > 0
    }

    /// The number of leading tokens that pooling ignores, if `dropped` tokens after the first `prefix` ones were truncated.
    pub(super) fn excluded(&self, prefix: usize, dropped: usize) -> usize {
        match self.excluded {
            0 => 0,
            excluded => excluded.saturating_sub(dropped).max(prefix),
        }
    }
}

impl Tokenizer {
    /// Prepares a prompt; `is_excluded` if its tokens are not pooled.
    ///
    /// sentence-transformers excludes as many leading tokens as the prompt has on its own, including special tokens
    /// before it, although the last of them may merge with the beginning of a text.
    ///
    /// # Errors
    /// [`TokenizeError::Failed`].
    pub fn prompt(&self, text: &str, is_excluded: bool) -> Result<Prompt, TokenizeError> {
        // An empty prompt is like none: special tokens are pooled.
        if !is_excluded || text.is_empty() {
            return Ok(Prompt::plain(text));
        }
        let ids = self.tokenize(text, Truncation::End)?.ids;
        let ends_special = ids.as_slice().last().is_some_and(|last| self.is_special(*last));
        Ok(Prompt { text: text.to_owned(), excluded: ids.len() - usize::from(ends_special) })
    }

    fn is_special(&self, id: u32) -> bool {
        self.suffix.contains(&id) || self.inner.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }
}
