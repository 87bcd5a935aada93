//! Sample texts of an exact number of tokens, for benchmarks.

/// Ordinary prose. The cost of attention and matrix products does not depend on the text; that of embedding lookups
/// depends a little on its variety.
const PROSE: &str = "The service reads a request and checks it before a free session takes its tokens through every \
                     layer of the model and the mean of the last states goes back to the caller as one vector";
/// Words that supply the last missing tokens: one token each in most tokenizers.
const SHORT: [&str; 4] = ["a", "the", "1", "."];

/// A text of exactly `tokens` tokens as counted by `count`, which must include special tokens. Texts that begin at
/// different words of the prose (`first_word`) differ. `None` if no sequence of words has that many tokens.
///
/// Takes as many words as fit, and adds short ones until the count is exact.
///
/// # Errors
/// The error of `count`.
pub fn text_of_tokens<E>(
    tokens: usize,
    first_word: usize,
    count: impl Fn(&str) -> Result<usize, E>,
) -> Result<Option<String>, E> {
    let prose = |words: usize| PROSE.split(' ').cycle().skip(first_word).take(words).collect::<Vec<_>>().join(" ");
    // Every word has at least one token, so `tokens + 1` words are too many.
    let mut fitting = 0;
    let mut exceeding = tokens + 1;
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Counts two special tokens, and one token for every `letters` letters of a word.
    fn counter(letters: usize) -> impl Fn(&str) -> Result<usize, Infallible> {
        move |text: &str| Ok(2 + text.split_whitespace().map(|word| word.len().div_ceil(letters)).sum::<usize>())
    }

    #[test]
    fn texts_have_exactly_the_requested_number_of_tokens() {
        for letters in [1, 2, 4, 100] {
            for tokens in [2, 3, 4, 11, 32, 64, 384, 512] {
                for first_word in 0..16 {
                    let Ok(text) = text_of_tokens(tokens, first_word, counter(letters));
                    let text = text.expect("a text");
                    assert_eq!(counter(letters)(&text), Ok(tokens), "{text}");
                }
            }
        }
    }

    #[test]
    fn texts_that_begin_at_different_words_differ() {
        let texts: std::collections::BTreeSet<_> = (0..16)
            .map(|first_word| {
                let Ok(text) = text_of_tokens(64, first_word, counter(4));
                text.expect("a text")
            })
            .collect();
        assert_eq!(texts.len(), 16);
    }

    #[test]
    fn there_is_no_text_if_the_words_do_not_add_up() {
        let even = |text: &str| Ok::<_, Infallible>(2 + 2 * text.split_whitespace().count());
        assert_eq!(text_of_tokens(7, 0, even), Ok(None));
        assert!(text_of_tokens(8, 0, even).is_ok_and(|text| text.is_some()));
        assert_eq!(text_of_tokens(1, 0, even), Ok(None), "the special tokens alone are more");
    }
}
