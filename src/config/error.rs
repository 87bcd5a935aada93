//! Mistakes in a configuration. All of them are told at once.

use std::fmt;
use std::path::{Path, PathBuf};

/// A quoted value is cut here: a message is not the place for a whole file.
const LONGEST_QUOTE: usize = 120;

/// Where the text of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// No source gives it.
    Default,
    /// The TOML file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl Origin {
    /// A source of higher rank outdoes one of lower rank.
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

/// A setting's text and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The setting as flags name it, without dashes in front.
    pub setting: String,
    /// Its text.
    pub text: String,
    /// Where the text stands.
    pub origin: Origin,
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.setting, quote(&self.text), self.origin)
    }
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// A value that the setting cannot have.
    #[error("{given}: expected {expected}")]
    Value {
        /// The setting, its text and where it stands.
        given: Given,
        /// What the setting takes.
        expected: String,
    },
    /// A name that no setting has.
    #[error("{name}: there is no such setting ({origin}){}", meant(suggestion.as_deref()))]
    Unknown {
        /// The name as it was written.
        name: String,
        /// Where it stands.
        origin: Origin,
        /// The name that may have been meant.
        suggestion: Option<String>,
    },
    /// Two values that each are fine, but not together.
    #[error("{first} and {second}: {problem}")]
    Conflict {
        /// One of them.
        first: Given,
        /// The other.
        second: Given,
        /// Why they do not go together, and what to do.
        problem: String,
    },
    /// A file that is not TOML.
    #[error("file `{}` {line}:{column} is not TOML: {problem}", plain(path))]
    Syntax {
        /// The file as it was named.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// What the parser stumbled over.
        problem: String,
    },
    /// A file that cannot be read.
    #[error("file `{}` (from {named_by}): {problem}", plain(path))]
    Unreadable {
        /// The file as it was named.
        path: PathBuf,
        /// The flag or variable that names it.
        named_by: Origin,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A variable whose value is not UTF-8.
    #[error("variable `{name}`: its value is not UTF-8; set it to plain text")]
    NotText {
        /// The variable.
        name: String,
    },
}

/// Everything that is wrong with a configuration: at least one mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(Vec<Mistake>);

impl ConfigErrors {
    pub(super) fn new(mistakes: Vec<Mistake>) -> Self {
        Self(mistakes)
    }

    /// What is wrong, in the order in which it is told.
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

fn meant(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(|| "; remove it".to_owned(), |name| format!("; did you mean `{name}`?"))
}

/// On one line, whatever it holds, and no longer than a reader needs.
fn quote(text: &str) -> String {
    let mut letters = text.chars();
    let start = one_line(letters.by_ref().take(LONGEST_QUOTE));
    let rest = if letters.next().is_some() { "..." } else { "" };
    format!("`{start}{rest}`")
}

/// A path on one line.
fn plain(path: &Path) -> String {
    one_line(path.to_string_lossy().chars())
}

/// Newlines, escape sequences and the like as escapes; quotes and backslashes as they are.
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
