//! Sample texts for the model being served.

use super::ProbeError;
use crate::embed::Embedder;
use embedd_common::sample_texts::text_of_tokens;

/// Distinct texts per token count: more would take longer to generate than they are worth.
const DISTINCT: usize = 16;

/// Up to [`DISTINCT`] texts of exactly `tokens` tokens, including special tokens. Takes a few milliseconds of CPU time.
///
/// # Errors
/// [`ProbeError::NoText`] if no sequence of words has that many tokens.
pub(super) fn of_tokens(embedder: &Embedder, tokens: usize) -> Result<Vec<String>, ProbeError> {
    let count = |text: &str| count_tokens(embedder, text);
    let found: Vec<String> = (0..DISTINCT)
        .map(|first_word| text_of_tokens(tokens, first_word, count))
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    if found.is_empty() { Err(ProbeError::NoText(tokens)) } else { Ok(found) }
}

/// The minimum number of tokens of a text: the special tokens of an empty one.
///
/// # Errors
/// [`ProbeError::Embed`] if the tokenizer fails.
pub(super) fn min_tokens(embedder: &Embedder) -> Result<usize, ProbeError> {
    count_tokens(embedder, "")
}

fn count_tokens(embedder: &Embedder, text: &str) -> Result<usize, ProbeError> {
    Ok(embedder.count_tokens_now(text)?)
}
