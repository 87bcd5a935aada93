//! The sources of a configuration, as text.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::environment::{self, CONFIG_VARIABLE};
use super::error::{Mistake, Origin};

/// A larger file is not a configuration but was named by mistake, such as a model.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The settings on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// The text of each given flag, by the key of the setting (`max_tokens`).
    pub values: BTreeMap<&'static str, String>,
    /// The TOML file of `--config`.
    pub file: Option<PathBuf>,
}

/// The texts of all sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The text of each given flag, by the key of the setting (`max_tokens`).
    pub flags: BTreeMap<&'static str, String>,
    /// Environment variables. Those of other programs are ignored.
    pub env: Vec<(String, String)>,
    /// The path of the TOML file, for messages, and its text.
    pub file: Option<(PathBuf, String)>,
}

impl Sources {
    /// Reads the file that the flags or the environment name. Also returns the mistakes in variables and the file.
    pub(super) fn collect(flags: &Flags, env: impl Iterator<Item = (OsString, OsString)>) -> (Self, Vec<Mistake>) {
        let (env, mut mistakes) = text_of(env);
        let file = named_file(flags, &env).and_then(|(path, named_by)| match read(&path) {
            Ok(text) => Some((path, text)),
            Err(problem) => {
                mistakes.push(Mistake::Unreadable { path, named_by, problem });
                None
            }
        });
        (Self { flags: flags.values.clone(), env, file }, mistakes)
    }
}

/// The variables that matter here, as text.
fn text_of(env: impl Iterator<Item = (OsString, OsString)>) -> (Vec<(String, String)>, Vec<Mistake>) {
    let mut texts = Vec::new();
    let mut mistakes = Vec::new();
    let named = env.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    for (name, value) in named.filter(|(name, _)| environment::concerns(name)) {
        match value.into_string() {
            Ok(value) => texts.push((name, value)),
            Err(_) => mistakes.push(Mistake::NotText { name }),
        }
    }
    // The order of the environment is arbitrary; that of messages should not be.
    texts.sort();
    (texts, mistakes)
}

/// The configuration file, and the flag or variable that names it.
fn named_file(flags: &Flags, env: &[(String, String)]) -> Option<(PathBuf, Origin)> {
    if let Some(path) = &flags.file {
        return Some((path.clone(), Origin::Flag("--config".to_owned())));
    }
    let (name, path) = env.iter().find(|(name, path)| name == CONFIG_VARIABLE && !path.is_empty())?;
    Some((PathBuf::from(path), Origin::Variable(name.clone())))
}

/// The text of the file, or why it cannot be used.
fn read(path: &Path) -> Result<String, String> {
    if path.is_dir() {
        return Err("it is a folder; name a TOML file".to_owned());
    }
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file; create it or name another one".to_owned(),
        _ => format!("it cannot be opened: {error}"),
    })?;
    let mut bytes = Vec::new();
    let limit = MAX_FILE_BYTES + 1;
    let read = file.take(limit).read_to_end(&mut bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    if read as u64 == limit {
        return Err("it is larger than 1 MiB; name a TOML file".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("it is not UTF-8 text (byte {at}); save it as UTF-8")
    })
}

#[cfg(test)]
mod tests;
