//! "Did you mean ...?"

/// The candidate that is nearest to `word`, unless all are too far to be what was meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters wrong is still a slip; more is another word.
    let far = word.chars().count().div_ceil(3);
    let wanted = plain(word);
    candidates
        .map(|candidate| (distance(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Case and the kind of dash are not what makes two names differ.
fn plain(word: &str) -> Vec<char> {
    word.chars().map(|letter| if letter == '-' { '_' } else { letter.to_ascii_lowercase() }).collect()
}

/// Insertions, deletions and replacements from `a` to `b` (Levenshtein's distance).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_insertions_deletions_and_replacements() {
        for (a, b, expected) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("listn", "listen", 1)] {
            assert_eq!(distance(&plain(a), &plain(b)), expected, "{a} {b}");
            assert_eq!(distance(&plain(b), &plain(a)), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["max_tokens", "max_texts", "listen"];
        assert_eq!(nearest("max-token", known.into_iter()), Some("max_tokens"));
        assert_eq!(nearest("MAX_TEXT", known.into_iter()), Some("max_texts"));
        assert_eq!(nearest("colour", known.into_iter()), None);
    }
}
