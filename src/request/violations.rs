//! The problems of invalid requests, in messages that every client accepts.

use std::fmt;

/// Maximum size of an error message. gRPC sends it in headers, where one byte may take three, and again in the details,
/// where three bytes take four. Some clients accept no more than 8 KiB of headers, and report a misleading error if
/// there are more.
const MAX_ERROR_BYTES: usize = 1024;
/// Maximum number of violations that an error reports.
const MAX_VIOLATIONS: usize = 10;
/// Maximum size of a violation's field and description.
const MAX_FIELD_BYTES: usize = 128;
const MAX_DESCRIPTION_BYTES: usize = 512;
/// Bytes that [`Violations`] adds to these two: `; ` and a space.
const SEPARATOR_BYTES: usize = 3;
/// Bytes reserved for the number of violations that are not reported.
const OMITTED_BYTES: usize = 32;
/// Maximum number of characters that a message quotes from a request.
const QUOTED_CHARS: usize = 80;
/// Marks a text as shortened.
const ELLIPSIS: &str = "...";

/// The name that a protocol gives the texts of a request, for error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextField {
    /// A list of texts: `texts`, and `texts[3]` for one of them.
    List(&'static str),
    /// A single text.
    Single(&'static str),
}

/// The problems of a request: those that an error reports, and the number of further ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Violations {
    pub(super) texts: TextField,
    found: Vec<Violation>,
    /// Size of `found` when displayed.
    bytes: usize,
    omitted: usize,
}

/// One problem of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The field as its protocol names it, with the index in a list (`texts[3]`).
    pub field: String,
    /// What is wrong, and what would be valid. Follows the field's name in a sentence.
    pub description: String,
}

impl Default for TextField {
    /// The field of `embedd.v1`.
    fn default() -> Self {
        Self::List("texts")
    }
}

impl TextField {
    /// The name of the whole field.
    pub(crate) fn all(self) -> &'static str {
        match self {
            Self::List(name) | Self::Single(name) => name,
        }
    }

    /// The name of one text.
    pub(crate) fn one(self, index: usize) -> String {
        match self {
            Self::List(name) => format!("{name}[{index}]"),
            Self::Single(name) => name.to_owned(),
        }
    }
}

impl Violations {
    /// No violations yet, for a request with its texts in this field.
    pub(crate) fn of(texts: TextField) -> Self {
        Self { texts, ..Self::default() }
    }

    /// Adds a violation. Those that do not fit an error are only counted.
    pub(crate) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        let field = shortened(field.into(), MAX_FIELD_BYTES);
        let description = shortened(description.into(), MAX_DESCRIPTION_BYTES);
        let bytes = self.bytes + field.len() + description.len() + SEPARATOR_BYTES;
        // The first violations are reported: once one is omitted, so are all that follow.
        if self.omitted > 0 || self.found.len() == MAX_VIOLATIONS || bytes + OMITTED_BYTES > MAX_ERROR_BYTES {
            self.omitted += 1;
            return;
        }
        self.bytes = bytes;
        self.found.push(Violation { field, description });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The violations that an error reports, in the order in which they were added.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Violation> {
        self.found.iter()
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Violation { field, description }) in self.found.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{field} {description}")?;
        }
        match self.omitted {
            0 => Ok(()),
            omitted => write!(f, "; and {omitted} more"),
        }
    }
}

/// The message of an error for a response, shortened to a size that every client accepts.
pub(crate) fn error_text(error: &(impl fmt::Display + ?Sized)) -> String {
    shortened(error.to_string(), MAX_ERROR_BYTES)
}

/// Cuts a text to `max_bytes`, at a character boundary.
fn shortened(mut text: String, max_bytes: usize) -> String {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes - ELLIPSIS.len()));
        text.push_str(ELLIPSIS);
    }
    text
}

/// Quotes a word of a request for a message, shortened.
pub(crate) fn quoted(word: &str) -> String {
    match word.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("`{}{ELLIPSIS}`", &word[..end]),
        None => format!("`{word}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_shortened_in_quotes() {
        let cases =
            [("", "``".to_owned()), ("é", "`é`".to_owned()), (&"é".repeat(80), format!("`{}`", "é".repeat(80)))];
        for (word, expected) in cases {
            assert_eq!(quoted(word), expected);
        }
        assert_eq!(quoted(&"é".repeat(81)), format!("`{}...`", "é".repeat(80)));
    }

    #[test]
    fn the_first_violations_are_reported_and_the_rest_counted() {
        let mut violations = Violations::default();
        for index in 0..300 {
            violations.add(format!("texts[{index}]"), "has 70000 bytes; the maximum is 65536");
        }
        let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, (0..10).map(|index| format!("texts[{index}]")).collect::<Vec<_>>());
        let text = violations.to_string();
        assert!(text.starts_with("texts[0] has 70000 bytes; the maximum is 65536; texts[1] has"), "{text}");
        assert!(text.ends_with("; texts[9] has 70000 bytes; the maximum is 65536; and 290 more"), "{text}");
    }

    #[test]
    fn long_violations_fit_into_an_error_and_the_first_is_always_reported() {
        for bytes in [0, 100, 256, 257, 10_000] {
            let mut violations = Violations::default();
            for _ in 0..1000 {
                violations.add("é".repeat(bytes.min(100)), "é".repeat(bytes));
            }
            let text = violations.to_string();
            assert_eq!(error_text(&violations), text, "the message needs no further shortening");
            let reported = violations.iter().count();
            assert!((1..=MAX_VIOLATIONS).contains(&reported), "{bytes}: {reported}");
            assert!(text.ends_with(&format!("; and {} more", 1000 - reported)), "{text}");
        }
    }

    #[test]
    fn long_errors_are_cut_between_characters() {
        assert_eq!(error_text(&"x".repeat(1024)), "x".repeat(1024));
        assert_eq!(error_text(&"x".repeat(1025)), format!("{}...", "x".repeat(1021)));
        assert_eq!(error_text(&"é".repeat(1024)), format!("{}...", "é".repeat(510)));
    }
}
