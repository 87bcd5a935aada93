//! The calibration texts for a tokenizer.
//!
//! A text that the tokenizer does not cover, because it mostly splits it into characters or bytes, says little about the
//! inputs that matter for the model, but its tokens would weigh as much as those of other texts.

use embedd_model::tokenize::Tokenizer;

/// A few texts of every kind that prompt detectors receive, one per line, for all models. They were written for this
/// project.
pub(super) const TEXTS: &str = include_str!("texts.txt");
/// Texts in more languages and scripts, code, encoded data, and long texts, for models that cover many languages. They
/// were written for this project.
pub(super) const FURTHER_TEXTS: &str = include_str!("further_texts.txt");

/// Maximum share of unknown tokens in a text that is covered.
const MAX_UNKNOWN: f64 = 0.1;
/// Minimum number of characters per token. Tokenizers without words of a script have less than 1.07.
const MIN_CHARACTERS: f64 = 1.1;
/// The same for Chinese characters and kana, where a character is often a word.
const MIN_IDEOGRAPHS: f64 = 0.8;

/// The texts for all models, then the further ones that the tokenizer covers, if it covers most of those in scripts other
/// than Latin. Otherwise, further texts would change the results for models of one language, which the first texts
/// represent well enough.
pub(super) fn texts(tokenizer: &Tokenizer) -> Vec<&'static str> {
    let further: Vec<&str> = FURTHER_TEXTS.lines().collect();
    let covered: Vec<&str> = further.iter().copied().filter(|text| is_covered(tokenizer, text)).collect();
    let other_scripts = |texts: &[&str]| texts.iter().filter(|text| !is_latin(text)).count();
    let is_multilingual = 2 * other_scripts(&covered) > other_scripts(&further);
    TEXTS.lines().chain(covered.into_iter().filter(|_| is_multilingual)).collect()
}

/// Whether a tokenizer has tokens for the words, or at least for groups of characters, of a text.
fn is_covered(tokenizer: &Tokenizer, text: &str) -> bool {
    let Ok(tokens) = tokenizer.tokens(text, false) else { return false };
    let unknown = tokens.iter().filter(|token| Some(token.id) == tokenizer.unknown_id()).count();
    let characters = text.chars().filter(|c| !c.is_whitespace()).count();
    let min = if share(text, is_ideographic) > 0.5 { MIN_IDEOGRAPHS } else { MIN_CHARACTERS };
    let count = tokens.len() as f64;
    !tokens.is_empty() && unknown as f64 <= MAX_UNKNOWN * count && characters as f64 >= min * count
}

/// Whether most letters are Latin.
fn is_latin(text: &str) -> bool {
    share(text, |c| matches!(c, '\0'..='\u{24f}' | '\u{1e00}'..='\u{1eff}')) > 0.5
}

/// Chinese characters and kana.
fn is_ideographic(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

/// The share of a text's letters for which `is` is true.
fn share(text: &str, is: impl Fn(char) -> bool) -> f64 {
    let letters = text.chars().filter(|c| c.is_alphabetic());
    let (count, found) = letters.fold((0, 0), |(count, found), c| (count + 1, found + usize::from(is(c))));
    f64::from(u32::try_from(found).unwrap_or(u32::MAX)) / f64::from(count.max(1))
}

#[cfg(test)]
mod tests;
