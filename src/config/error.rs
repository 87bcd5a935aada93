//! Mistakes in a configuration.

use std::fmt;
use std::path::{Path, PathBuf};

/// Longer quoted values are cut off, so that a message never contains a whole file.
const MAX_QUOTE: usize = 120;

/// Where the text of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// No source sets it.
    Default,
    /// The TOML file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted in characters, from 1.
        column: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl Origin {
    /// A source of higher rank overrides one of lower rank.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Variable(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "file `{}` {line}:{column}", plain(path)),
            Self::Variable(name) => write!(f, "variable `{}`", one_line(name.chars())),
            Self::Flag(flag) => write!(f, "flag `{flag}`"),
        }
    }
}

/// The text of a setting, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The setting as flags name it, without the leading dashes.
    pub setting: String,
    /// The value as it was written.
    pub text: String,
    /// The source.
    pub origin: Origin,
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.setting, quote(&self.text), self.origin)
    }
}

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// A value that the setting does not accept.
    #[error("{given}: expected {expected}")]
    Value {
        /// The setting, its text and its source.
        given: Given,
        /// What the setting accepts.
        expected: String,
    },
    /// A name that no setting has.
    #[error("{name}: no such setting ({origin}){}", did_you_mean(suggestion.as_deref()))]
    Unknown {
        /// The name as it was written.
        name: String,
        /// The source.
        origin: Origin,
        /// The name that was probably meant.
        suggestion: Option<String>,
    },
    /// Two values that are valid, but not together.
    #[error("{first} and {second}: {problem}")]
    Conflict {
        /// One value.
        first: Given,
        /// The other value.
        second: Given,
        /// Why they conflict, and what to do.
        problem: String,
    },
    /// A file that is not valid TOML.
    #[error("file `{}` {line}:{column} is not valid TOML: {problem}", plain(path))]
    Syntax {
        /// The file as it was named.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted in characters, from 1.
        column: usize,
        /// The parser's message.
        problem: String,
    },
    /// A file that cannot be read.
    #[error("file `{}` (from {named_by}): {problem}", plain(path))]
    Unreadable {
        /// The file as it was named.
        path: PathBuf,
        /// The flag or variable that names the file.
        named_by: Origin,
        /// Why it cannot be read, and what to do.
        problem: String,
    },
    /// A variable whose value is not UTF-8.
    #[error("variable `{name}`: the value is not UTF-8; set it to plain text")]
    NotText {
        /// The name of the variable.
        name: String,
    },
}

/// All mistakes in a configuration: at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(Vec<Mistake>);

impl ConfigErrors {
    pub(super) fn new(mistakes: Vec<Mistake>) -> Self {
        Self(mistakes)
    }

    /// The mistakes, in the order in which they are listed.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration has a mistake:")?,
            several => write!(f, "the configuration has {several} mistakes:")?,
        }
        for (number, mistake) in (1..).zip(&self.0) {
            write!(f, "\n  {number}. {mistake}")?;
        }
        Ok(())
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(|| "; remove it".to_owned(), |name| format!("; did you mean `{name}`?"))
}

/// Quotes the text on one line, whatever it contains, and cuts it off if it is long.
fn quote(text: &str) -> String {
    let mut letters = text.chars();
    let start = one_line(letters.by_ref().take(MAX_QUOTE));
    let rest = if letters.next().is_some() { "..." } else { "" };
    format!("`{start}{rest}`")
}

fn plain(path: &Path) -> String {
    one_line(path.to_string_lossy().chars())
}

/// Escapes newlines, escape sequences and the like; keeps quotes and backslashes.
fn one_line(letters: impl Iterator<Item = char>) -> String {
    let mut line = String::new();
    for letter in letters {
        match letter {
            '\'' | '"' | '\\' => line.push(letter),
            _ => line.extend(letter.escape_debug()),
        }
    }
    line
}
