//! Reads a file of texts.

use std::path::Path;

use serde::Deserialize;

use super::ValidateError;

/// A text for the comparison of two models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedText {
    /// Its id in the results.
    pub id: String,
    /// The text.
    pub text: String,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Option<String>,
    text: String,
}

/// The texts of a file: one per line, either plain or as JSON objects with `text` and optionally `id`. The first line
/// determines the format. Empty lines are skipped.
///
/// # Errors
/// [`ValidateError::Texts`].
pub fn parse_texts(contents: &str, path: &Path) -> Result<Vec<NamedText>, ValidateError> {
    let wrong = |line: usize, reason: String| ValidateError::Texts { path: path.to_owned(), line, reason };
    let lines =
        contents.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim().is_empty());
    let is_json = contents.trim_start().lines().next().is_some_and(|line| serde_json::from_str::<Line>(line).is_ok());
    let mut texts = Vec::new();
    for (number, line) in lines {
        let (id, text) = if is_json {
            let line: Line = serde_json::from_str(line).map_err(|error| wrong(number, error.to_string()))?;
            (line.id, line.text)
        } else {
            (None, line.to_owned())
        };
        texts.push(NamedText { id: id.unwrap_or_else(|| format!("line-{number}")), text });
    }
    if texts.is_empty() { Err(wrong(0, "the file has no texts".to_owned())) } else { Ok(texts) }
}
