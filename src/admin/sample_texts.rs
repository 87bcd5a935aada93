//! Texts of an exact number of tokens.

use super::ProbeError;
use crate::embed::Embedder;
use crate::request::{Limits, Texts, Violations};

/// Ordinary prose. Attention and products take the same time for any text; look-ups depend a little on its variety.
const PROSE: &str = "The service reads a request and checks it before a free session takes its tokens through every \
                     layer of the model and the mean of the last states goes back to the caller as one vector";
/// What may make up for the last missing token: one token each, for most tokenisers.
const SHORT: [&str; 4] = ["a", "the", "1", "."];
/// Texts that differ: more would take longer to make than they are worth.
const DIFFERENT: usize = 16;

/// Some different texts of exactly so many tokens, special tokens included. Takes some milliseconds of CPU.
///
/// # Errors
/// [`ProbeError::NoText`] where the words do not add up.
pub(super) fn texts(embedder: &Embedder, tokens: usize) -> Result<Vec<String>, ProbeError> {
    let count = |text: &str| count_tokens(embedder, text);
    let found: Vec<String> = (0..DIFFERENT)
        .map(|start| text(start, tokens, count))
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    if found.is_empty() { Err(ProbeError::NoText(tokens)) } else { Ok(found) }
}

/// As many words, from the one at `start` on, as do not exceed the tokens, and one or more short ones.
fn text<E>(start: usize, tokens: usize, count: impl Fn(&str) -> Result<usize, E>) -> Result<Option<String>, E> {
    let prose = |words: usize| PROSE.split(' ').cycle().skip(start).take(words).collect::<Vec<_>>().join(" ");
    // A word has one token at least: `tokens` words do exceed them.
    let (mut fitting, mut exceeding) = (0, tokens + 1);
    while exceeding - fitting > 1 {
        let words = fitting.midpoint(exceeding);
        if count(&prose(words))? <= tokens { fitting = words } else { exceeding = words }
    }
    let mut text = prose(fitting);
    let mut found = count(&text)?;
    while found < tokens {
        let longer = SHORT.iter().map(|short| format!("{text} {short}"));
        let mut counted = longer.map(|longer| count(&longer).map(|count| (longer, count)));
        let next = counted.find(|result| result.as_ref().map_or(true, |&(_, count)| count > found && count <= tokens));
        let Some(next) = next else { return Ok(None) };
        (text, found) = next?;
    }
    Ok(Some(text).filter(|_| found == tokens))
}

/// The tokens of an empty text: special tokens.
///
/// # Errors
/// [`ProbeError::Embed`] where the tokeniser fails.
pub(super) fn least_tokens(embedder: &Embedder) -> Result<usize, ProbeError> {
    count_tokens(embedder, "")
}

fn count_tokens(embedder: &Embedder, text: &str) -> Result<usize, ProbeError> {
    let limits = Limits { max_text_bytes: usize::MAX, ..*embedder.limits() };
    let texts = Texts::check(vec![text.to_owned()], &limits, &mut Violations::default());
    let counts = texts.map(|texts| embedder.count_tokens(&texts)).transpose()?;
    Ok(counts.into_iter().flatten().map(|count| count.tokens).sum())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Two special tokens, and one for each letters of a word, or part of it.
    fn tokens(letters: usize) -> impl Fn(&str) -> Result<usize, Infallible> {
        move |text: &str| Ok(2 + text.split_whitespace().map(|word| word.len().div_ceil(letters)).sum::<usize>())
    }

    #[test]
    fn a_text_has_exactly_the_tokens_that_are_asked_for() {
        for letters in [1, 2, 4, 100] {
            for asked in [2, 3, 4, 11, 32, 64, 384, 512] {
                for start in 0..DIFFERENT {
                    let Ok(text) = text(start, asked, tokens(letters));
                    let text = text.expect("the words add up");
                    assert_eq!(tokens(letters)(&text), Ok(asked), "{text}");
                }
            }
        }
    }

    #[test]
    fn where_words_do_not_add_up_there_is_no_text() {
        let even = |text: &str| Ok::<_, Infallible>(2 + 2 * text.split_whitespace().count());
        assert_eq!(text(0, 7, even), Ok(None));
        assert!(text(0, 8, even).is_ok_and(|text| text.is_some()));
        assert_eq!(text(0, 1, even), Ok(None), "special tokens alone are more");
    }
}
