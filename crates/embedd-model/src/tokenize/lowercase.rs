//! Maps parts of a lowercased text to the original text.

use std::ops::Range;

/// The original bytes for each byte of the lowercased text.
#[derive(Debug)]
pub(super) struct Origins(Vec<Range<usize>>);

impl Origins {
    /// If a character keeps its length, each of its bytes maps to the byte at the same position; otherwise each byte
    /// maps to the whole character.
    pub(super) fn of(text: &str) -> Self {
        let mut origins = Vec::with_capacity(text.len());
        for (at, letter) in text.char_indices() {
            let before = letter.len_utf8();
            // `str::to_lowercase` differs from this only for a final sigma, which has the same length as a regular one.
            let after: usize = letter.to_lowercase().map(char::len_utf8).sum();
            origins.extend((0..after).map(
                |byte| {
                    if before == after { at + byte..at + byte + 1 } else { at..at + before }
                },
            ));
        }
        Self(origins)
    }

    /// The original bytes for a range of the lowercased text.
    pub(super) fn range(&self, lower: Range<usize>) -> Range<usize> {
        let end = self.0.last().map_or(0, |last| last.end);
        let start = self.0.get(lower.start).map_or(end, |first| first.start);
        match lower.is_empty() {
            true => start..start,
            false => start..self.0.get(lower.end - 1).map_or(end, |last| last.end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_in_texts_whose_length_changes_in_lowercase() {
        // The dotted capital I becomes an i and a dot above: 2 bytes become 3. The Kelvin sign (3 bytes) becomes a k.
        let text = "Aİb\u{212A}ΣΟΣ";
        let lower = text.to_lowercase();
        let origins = Origins::of(text);
        assert_eq!(origins.0.len(), lower.len());
        let cases = [("a", "A"), ("i\u{307}", "İ"), ("i", "İ"), ("b", "b"), ("bk", "b\u{212A}"), ("σος", "ΣΟΣ")];
        for (part, expected) in cases {
            let start = lower.find(part).expect(part);
            assert_eq!(&text[origins.range(start..start + part.len())], expected, "{part}");
        }
        assert_eq!((origins.range(1..1), origins.range(lower.len()..lower.len())), (1..1, text.len()..text.len()));
        assert_eq!(Origins::of("").range(0..0), 0..0);
    }
}
