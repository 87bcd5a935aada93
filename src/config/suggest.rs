//! "Did you mean ...?"

use super::table::TABLE;

/// The key that `key` may be a typo of.
pub(super) fn nearest_key(key: &str) -> Option<&'static str> {
    nearest(key, TABLE.iter().map(|setting| setting.key))
}

/// The candidate closest to `word`, unless all are too different to have been meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // With up to a third of its letters wrong, a word is a typo; with more, it is a different word.
    let max_distance = word.chars().count().div_ceil(3);
    let word = normalize(word);
    candidates
        .map(|candidate| (strsim::osa_distance(&word, &normalize(candidate)), candidate))
        .filter(|(distance, _)| *distance <= max_distance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Names that differ only in case and in dashes are the same.
fn normalize(word: &str) -> String {
    word.replace('-', "_").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_recognized_and_a_different_word_is_not() {
        let known = ["max_tokens", "max_texts", "listen"];
        assert_eq!(nearest("max-token", known.into_iter()), Some("max_tokens"));
        assert_eq!(nearest("MAX_TEXT", known.into_iter()), Some("max_texts"));
        assert_eq!(nearest("lisetn", known.into_iter()), Some("listen"));
        assert_eq!(nearest("color", known.into_iter()), None);
        assert_eq!(nearest_key("max-tokens"), Some("max_tokens"));
    }
}
