//! Tokenization in steps, so that it can be interrupted: each takes about a millisecond, unless the tokenizer does not
//! allow texts to be cut.

use std::borrow::Cow;

use super::pieces::Pieces;
use super::{AcceptedIds, Prompt, Token, TokenizeError, Tokenized, Tokenizer, Truncation};
use crate::engine::TokenIds;

/// The tokenization of one text.
pub trait Work {
    /// What it results in.
    type Output;

    /// Processes the next piece of the text and returns its bytes; `None` if everything that is needed is known.
    ///
    /// # Errors
    /// [`TokenizeError::Failed`].
    fn step(&mut self) -> Result<Option<usize>, TokenizeError>;

    /// The result, once no step is left.
    ///
    /// # Errors
    /// [`TokenizeError::TooLong`].
    fn finish(self) -> Result<Self::Output, TokenizeError>;

    /// Does all steps.
    ///
    /// # Errors
    /// [`TokenizeError`].
    fn complete(mut self) -> Result<Self::Output, TokenizeError>
    where
        Self: Sized,
    {
        while self.step()?.is_some() {}
        self.finish()
    }
}

/// Tokenizes a text for the model.
#[derive(Debug)]
pub struct Tokenizing<'t> {
    tokenizer: &'t Tokenizer,
    pieces: Pieces<'t>,
    /// Tokens that come after those of the pieces.
    given: Option<Result<&'t [u32], TokenizeError>>,
    prompt: Option<&'t Prompt>,
    truncation: Truncation,
    /// The ids of the pieces, in the order in which they were processed: that of the text, or with
    /// [`Truncation::Start`] its reverse.
    ids: Vec<Vec<u32>>,
    /// Tokens so far, without special tokens.
    tokens: usize,
}

/// Counts the tokens of a text.
#[derive(Debug)]
pub struct Counting<'t> {
    tokenizer: &'t Tokenizer,
    pieces: Pieces<'t>,
    tokens: usize,
}

/// Lists the tokens of a text.
#[derive(Debug)]
pub struct Listing<'t> {
    tokenizer: &'t Tokenizer,
    /// The text as the caller sent it.
    text: &'t str,
    pieces: Pieces<'t>,
    with_special: bool,
    tokens: Vec<Token>,
}

impl<'t> Tokenizing<'t> {
    pub(super) fn new(
        tokenizer: &'t Tokenizer,
        text: &'t str,
        prompt: Option<&'t Prompt>,
        truncation: Truncation,
    ) -> Self {
        let prompt = prompt.filter(|prompt| !prompt.text().is_empty());
        let whole = prompt.map_or(Cow::Borrowed(text), |prompt| Cow::Owned(prompt.text().to_owned() + text));
        Self { tokenizer, pieces: tokenizer.pieces(whole), given: None, prompt, truncation, ids: Vec::new(), tokens: 0 }
    }

    /// For a text of which only the tokens are known.
    pub(super) fn of_ids(
        tokenizer: &'t Tokenizer,
        ids: &'t [u32],
        prompt: Option<&'t Prompt>,
        truncation: Truncation,
    ) -> Self {
        let Tokenizer { prefix, suffix, .. } = tokenizer;
        let inner = ids.strip_prefix(&prefix[..]).and_then(|ids| ids.strip_suffix(&suffix[..]));
        let given = match (inner, tokenizer.accepted_ids) {
            (Some(inner), _) if tokenizer.special_count() > 0 => Ok(inner),
            (_, AcceptedIds::Any) => Ok(ids),
            (_, AcceptedIds::Marked) => Err(TokenizeError::UnmarkedIds),
        };
        Self { given: Some(given), ..Self::new(tokenizer, "", prompt, truncation) }
    }

    /// The given tokens, the first time.
    fn take_given(&mut self) -> Result<Option<Vec<u32>>, TokenizeError> {
        let Some(ids) = self.given.take().transpose()? else { return Ok(None) };
        let unknown = ids.iter().copied().enumerate().find(|(_, id)| self.tokenizer.inner.id_to_token(*id).is_none());
        match unknown {
            Some((position, id)) => Err(TokenizeError::UnknownId { id, position }),
            None => Ok(Some(ids.to_vec())),
        }
    }

    /// The next tokens in the order in which they are processed, and the bytes that they were made of.
    fn next(&mut self) -> Result<Option<(Vec<u32>, usize)>, TokenizeError> {
        let is_reverse = self.truncation == Truncation::Start;
        if is_reverse && let Some(ids) = self.take_given()? {
            return Ok(Some((ids, 0)));
        }
        match if is_reverse { self.pieces.next_back() } else { self.pieces.next() } {
            Some(piece) => Ok(Some((self.tokenizer.encode(&self.pieces.text()[piece.clone()])?, piece.len()))),
            None => Ok(self.take_given()?.map(|ids| (ids, 0))),
        }
    }

    /// Whether the number of dropped tokens must be known: they may include some of the prompt.
    fn counts_dropped(&self) -> bool {
        self.prompt.is_some_and(Prompt::is_excluded)
    }
}

impl Work for Tokenizing<'_> {
    type Output = Tokenized;

    fn step(&mut self) -> Result<Option<usize>, TokenizeError> {
        let is_full = self.tokens > self.tokenizer.capacity();
        let is_enough = match self.truncation {
            Truncation::End => is_full,
            Truncation::Start => is_full && !self.counts_dropped(),
            Truncation::Reject => false,
        };
        if is_enough {
            return Ok(None);
        }
        let Some((ids, bytes)) = self.next()? else { return Ok(None) };
        self.tokens += ids.len();
        // Only the number of further tokens is needed.
        if !is_full {
            self.ids.push(ids);
        }
        Ok(Some(bytes))
    }

    fn finish(mut self) -> Result<Tokenized, TokenizeError> {
        let Tokenizer { prefix, suffix, max_tokens, .. } = self.tokenizer;
        let capacity = self.tokenizer.capacity();
        let truncated = self.tokens > capacity;
        if truncated && self.truncation == Truncation::Reject {
            let tokens = self.tokens + self.tokenizer.special_count();
            return Err(TokenizeError::TooLong { tokens, max: *max_tokens });
        }
        if self.truncation == Truncation::Start {
            self.ids.reverse();
        }
        let ids = self.ids.concat();
        let excess = ids.len().saturating_sub(capacity);
        let (dropped, kept) = match self.truncation {
            Truncation::Start => (self.tokens.saturating_sub(capacity), &ids[excess..]),
            Truncation::End | Truncation::Reject => (0, &ids[..ids.len() - excess]),
        };
        let excluded = self.prompt.map_or(0, |prompt| prompt.excluded(prefix.len(), dropped));
        let ids = TokenIds::new([prefix, kept, suffix].concat()).with_excluded(excluded);
        Ok(Tokenized { ids, truncated })
    }
}

impl<'t> Counting<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, text: &'t str) -> Self {
        Self { tokenizer, pieces: tokenizer.pieces(Cow::Borrowed(text)), tokens: 0 }
    }
}

impl Work for Counting<'_> {
    type Output = usize;

    fn step(&mut self) -> Result<Option<usize>, TokenizeError> {
        let Some(piece) = self.pieces.next() else { return Ok(None) };
        let bytes = piece.len();
        self.tokens += self.tokenizer.encode(&self.pieces.text()[piece])?.len();
        Ok(Some(bytes))
    }

    fn finish(self) -> Result<usize, TokenizeError> {
        Ok(self.tokens + self.tokenizer.special_count())
    }
}

impl<'t> Listing<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, text: &'t str, with_special: bool) -> Self {
        Self { tokenizer, text, pieces: tokenizer.pieces(Cow::Borrowed(text)), with_special, tokens: Vec::new() }
    }
}

impl Work for Listing<'_> {
    type Output = Vec<Token>;

    fn step(&mut self) -> Result<Option<usize>, TokenizeError> {
        let Some(piece) = self.pieces.next() else { return Ok(None) };
        let bytes = piece.len();
        self.tokens.extend(self.tokenizer.list(&self.pieces.text()[piece.clone()], piece.start)?);
        Ok(Some(bytes))
    }

    fn finish(self) -> Result<Vec<Token>, TokenizeError> {
        let mut tokens = self.tokens;
        self.tokenizer.show_original(&mut tokens, self.text);
        if self.with_special {
            let Tokenizer { prefix, suffix, .. } = self.tokenizer;
            tokens.splice(0..0, self.tokenizer.special(prefix));
            tokens.extend(self.tokenizer.special(suffix));
        }
        Ok(tokens)
    }
}
