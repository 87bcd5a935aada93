//! Tokenization with the model's own tokenizer.

use std::borrow::Cow;
use std::ops::Range;

use tokenizers::{ModelWrapper, NormalizedString, Normalizer as _};

use crate::engine::TokenIds;

mod bert;
mod load;
mod lowercase;
mod pieces;
mod prompt;
mod template;
mod wordpiece;
mod work;

use bert::Bert;
pub use load::TokenizerError;
use pieces::{Cuts, Pieces};
pub use prompt::Prompt;
pub use work::{Counting, Listing, Tokenizing, Work};

/// A bundle's tokenizer, with the maximum number of tokens per text.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// If the pipeline is BERT's: a faster implementation of it.
    bert: Option<Bert>,
    /// Where texts may be cut, if that is known.
    cuts: Option<Cuts>,
    /// Special tokens before and after the tokens of every text.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    unknown: Option<u32>,
    max_tokens: usize,
    lowercase: bool,
    accepted_ids: AcceptedIds,
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

/// How the names of special tokens in a text (`</s>`, `[SEP]`, `<mask>`) are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpecialTokens {
    /// The special tokens, as in PyTorch.
    #[default]
    Interpret,
    /// Nothing but their characters.
    Text,
}

/// Which token ids are accepted in place of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AcceptedIds {
    /// Those with the special tokens that the tokenizer puts around every text, which shows that they belong to it.
    #[default]
    Marked,
    /// All in the vocabulary, with or without special tokens.
    Any,
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

/// Why a text cannot be tokenized.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages explain the fields")]
pub enum TokenizeError {
    /// The text has too many tokens and may not be truncated.
    #[error("has {tokens} tokens; the maximum is {max}, and truncation is disabled")]
    TooLong { tokens: usize, max: usize },
    /// Token ids without special tokens.
    #[error(
        "has token ids without the special tokens that the model's tokenizer puts around every text, so they may belong to \
         another tokenizer, such as tiktoken, and encode another text; send the text (LangChain: \
         check_embedding_ctx_length=False), or include the special tokens"
    )]
    UnmarkedIds,
    /// A token id is not in the vocabulary.
    #[error(
        "has the token id {id} at position {position}, which the model's vocabulary does not have; send ids of the model's own \
         tokenizer, or texts"
    )]
    UnknownId { id: u32, position: usize },
    /// The tokenizer failed.
    #[error("cannot be tokenized: {0}")]
    Failed(String),
}

/// The tokenizer cannot decode ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ids cannot be decoded: {0}")]
pub struct DecodeError(String);

impl Tokenizer {
    /// Sets how the names of special tokens in texts are treated.
    pub fn set_special_tokens(&mut self, special_tokens: SpecialTokens) {
        self.inner.set_encode_special_tokens(special_tokens == SpecialTokens::Text);
    }

    /// How the names of special tokens in texts are treated.
    pub fn special_tokens(&self) -> SpecialTokens {
        if self.inner.get_encode_special_tokens() { SpecialTokens::Text } else { SpecialTokens::Interpret }
    }

    /// Sets which token ids are accepted in place of a text.
    pub fn set_accepted_ids(&mut self, accepted: AcceptedIds) {
        self.accepted_ids = accepted;
    }

    /// Whether the tokens of the text may differ from those in PyTorch, because it contains the name of a special token.
    pub fn differs_from_pytorch(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let mut added = self.inner.get_added_tokens_decoder().into_values();
        self.special_tokens() == SpecialTokens::Text
            && added.any(|token| token.special && text.contains(&token.content.to_lowercase()))
    }

    /// The maximum number of tokens per text, including special tokens.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The token for parts of a text that are not in the vocabulary; `None` if the tokenizer has none.
    pub fn unknown_id(&self) -> Option<u32> {
        self.unknown
    }

    /// The largest id of any token, and the token: of the vocabulary, added, or in the template around texts.
    pub fn largest_id(&self) -> (u32, String) {
        let known = self.inner.get_vocab(true).into_iter().map(|(token, id)| (id, token));
        // The template may have ids that are not in the vocabulary.
        let template = template::around_a_text(&self.inner).unwrap_or_default();
        let around = template.get_ids().iter().copied().zip(template.get_tokens().iter().cloned());
        known.chain(around.filter(|(id, _)| *id != template::TEXT)).max().unwrap_or_default()
    }

    /// The algorithm that splits words into tokens, by its name in `tokenizer.json`.
    pub fn model_type(&self) -> &'static str {
        match self.inner.get_model() {
            ModelWrapper::BPE(_) => "BPE",
            ModelWrapper::WordPiece(_) => "WordPiece",
            ModelWrapper::WordLevel(_) => "WordLevel",
            ModelWrapper::Unigram(_) => "Unigram",
        }
    }

    /// The number of tokens, including added ones.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Whether texts are lowercased.
    pub fn lowercases(&self) -> bool {
        let mut sample = NormalizedString::from("A");
        let normalizer = self.inner.get_normalizer();
        let is_normalized = normalizer.is_some_and(|normalizer| normalizer.normalize(&mut sample).is_ok());
        self.lowercase || (is_normalized && sample.get().contains('a'))
    }

    /// Ids for measurements, in place of a text: the special tokens around every text, and as many others as `tokens`
    /// requires, from the id `start` on.
    pub fn sample_ids(&self, tokens: usize, start: usize) -> TokenIds {
        // Without gaps in the vocabulary, these are all of its ids; with gaps, none of them is larger than the largest.
        let vocabulary = 0..self.inner.get_vocab_size(true) as u32;
        let others = tokens.saturating_sub(self.special_count());
        let others: Vec<u32> = vocabulary.cycle().skip(start).take(others).collect();
        TokenIds::new([&self.prefix[..], &others, &self.suffix].concat())
    }

    /// The number of special tokens around every text.
    pub fn special_count(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    /// Tokenizes a text for the model: adds special tokens and truncates.
    ///
    /// # Errors
    /// [`TokenizeError`].
    pub fn tokenize(&self, text: &str, truncation: Truncation) -> Result<Tokenized, TokenizeError> {
        self.start(text, None, truncation).complete()
    }

    /// Like [`tokenize`](Self::tokenize), with a prompt in front of the text. Both are tokenized, and truncated, as one
    /// text.
    ///
    /// # Errors
    /// [`TokenizeError`].
    pub fn tokenize_with(
        &self,
        text: &str,
        prompt: Option<&Prompt>,
        truncation: Truncation,
    ) -> Result<Tokenized, TokenizeError> {
        self.start(text, prompt, truncation).complete()
    }

    /// Like [`tokenize_with`](Self::tokenize_with), in steps.
    pub fn start<'t>(&'t self, text: &'t str, prompt: Option<&'t Prompt>, truncation: Truncation) -> Tokenizing<'t> {
        Tokenizing::new(self, text, prompt, truncation)
    }

    /// Like [`start`](Self::start), for a text that is given by the ids of its tokens.
    pub fn start_ids<'t>(
        &'t self,
        ids: &'t [u32],
        prompt: Option<&'t Prompt>,
        truncation: Truncation,
    ) -> Tokenizing<'t> {
        Tokenizing::of_ids(self, ids, prompt, truncation)
    }

    /// Whether no more of a long text is processed than the model needs, so that texts to truncate may have any size.
    pub fn stops_early(&self) -> bool {
        self.cuts.is_some()
    }

    /// The number of tokens of the whole text, including special tokens.
    ///
    /// # Errors
    /// [`TokenizeError::Failed`].
    pub fn count(&self, text: &str) -> Result<usize, TokenizeError> {
        self.start_count(text).complete()
    }

    /// Like [`count`](Self::count), in steps.
    pub fn start_count<'t>(&'t self, text: &'t str) -> Counting<'t> {
        Counting::new(self, text)
    }

    /// The tokens of the whole text, surrounded by special tokens if `with_special`.
    ///
    /// # Errors
    /// [`TokenizeError::Failed`].
    pub fn tokens(&self, text: &str, with_special: bool) -> Result<Vec<Token>, TokenizeError> {
        self.start_list(text, with_special).complete()
    }

    /// Like [`tokens`](Self::tokens), in steps.
    pub fn start_list<'t>(&'t self, text: &'t str, with_special: bool) -> Listing<'t> {
        Listing::new(self, text, with_special)
    }

    /// Decodes ids to a text, which includes the names of special tokens if `with_special`. Ids outside the vocabulary
    /// are ignored.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(&self, ids: &[u32], with_special: bool) -> Result<String, DecodeError> {
        self.inner.decode(ids, !with_special).map_err(|error| DecodeError(error.to_string()))
    }

    /// The maximum number of tokens of a text without special tokens.
    fn capacity(&self) -> usize {
        self.max_tokens - self.special_count()
    }

    /// The text as the tokenizer gets it, in pieces that can be tokenized independently.
    fn pieces<'t>(&'t self, text: Cow<'t, str>) -> Pieces<'t> {
        let text = if self.lowercase { Cow::Owned(text.to_lowercase()) } else { text };
        Pieces::new(text, self.cuts.as_ref())
    }

    /// The ids of a piece, without special tokens.
    fn encode(&self, piece: &str) -> Result<Vec<u32>, TokenizeError> {
        let Some(bert) = &self.bert else {
            return Ok(self.inner.encode_fast(piece, false).map_err(|error| failed(&error))?.get_ids().to_vec());
        };
        let mut ids = Vec::new();
        bert.ids(&self.inner, piece, &mut ids).map_err(|error| failed(&error))?;
        Ok(ids)
    }

    /// The tokens of a piece that begins at `start`, without special tokens. They have no text yet.
    fn list(&self, piece: &str, start: usize) -> Result<impl Iterator<Item = Token>, TokenizeError> {
        let encoding = match &self.bert {
            Some(bert) => bert.encode(&self.inner, piece),
            None => self.inner.encode(piece, false),
        };
        let encoding = encoding.map_err(|error| failed(&error))?;
        let tokens: Vec<_> = encoding.get_ids().iter().copied().zip(encoding.get_offsets().iter().copied()).collect();
        Ok(tokens.into_iter().map(move |(id, (from, to))| {
            let bytes = start + from..start + to;
            Token { id, text: String::new(), bytes: Some(bytes) }
        }))
    }

    /// Gives tokens their parts of the original text.
    fn show_original(&self, tokens: &mut [Token], text: &str) {
        let origins = self.lowercase.then(|| lowercase::Origins::of(text));
        for token in tokens {
            let Some(bytes) = token.bytes.take() else { continue };
            let bytes = origins.as_ref().map_or(bytes.clone(), |origins| origins.range(bytes));
            let part = text.as_bytes().get(bytes.clone()).unwrap_or_default();
            token.text = String::from_utf8_lossy(part).into_owned();
            token.bytes = Some(bytes);
        }
    }

    fn special(&self, ids: &[u32]) -> impl Iterator<Item = Token> {
        ids.iter().map(|&id| Token { id, text: self.inner.id_to_token(id).unwrap_or_default(), bytes: None })
    }
}

fn failed(error: &tokenizers::Error) -> TokenizeError {
    TokenizeError::Failed(error.to_string())
}

#[cfg(test)]
mod tests;
