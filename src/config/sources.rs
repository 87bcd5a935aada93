//! The texts that a configuration is made of, and the one place where they are collected from the process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::Configuration;
use super::environment::{self, CONFIG_VARIABLE};
use super::error::{ConfigErrors, Mistake, Origin};

/// A larger file is no configuration but a slip, such as the path of a model.
const LARGEST_FILE: u64 = 1 << 20;

/// What the command line says about settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// The text of each flag that was given, by the setting's key (`max_tokens`).
    pub values: BTreeMap<&'static str, String>,
    /// The TOML file of `--config`.
    pub file: Option<PathBuf>,
}

/// Everything that a configuration is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Texts of flags by the setting's key (`max_tokens`).
    pub flags: BTreeMap<&'static str, String>,
    /// Environment variables. Those that are not embedd's are passed over.
    pub env: Vec<(String, String)>,
    /// The TOML file's path, for messages, and its text.
    pub file: Option<(PathBuf, String)>,
}

impl Configuration {
    /// The configuration of this process: the flags, its environment and the file that either names.
    ///
    /// # Errors
    /// [`ConfigErrors`] with every mistake, an unreadable file included.
    pub fn load(flags: &Flags) -> Result<Self, ConfigErrors> {
        Self::collect(flags, std::env::vars_os())
    }

    fn collect(flags: &Flags, env: impl Iterator<Item = (OsString, OsString)>) -> Result<Self, ConfigErrors> {
        let (env, mut mistakes) = text_of(env);
        let file = named_file(flags, &env).and_then(|(path, named_by)| match read(&path) {
            Ok(text) => Some((path, text)),
            Err(problem) => {
                mistakes.push(Mistake::Unreadable { path, named_by, problem });
                None
            }
        });
        Self::resolve_besides(&Sources { flags: flags.values.clone(), env, file }, mistakes)
    }
}

/// The variables that matter here, as text.
fn text_of(env: impl Iterator<Item = (OsString, OsString)>) -> (Vec<(String, String)>, Vec<Mistake>) {
    let (mut texts, mut mistakes) = (Vec::new(), Vec::new());
    let named = env.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    for (name, value) in named.filter(|(name, _)| environment::concerns(name)) {
        match value.into_string() {
            Ok(value) => texts.push((name, value)),
            Err(_) => mistakes.push(Mistake::NotText { name }),
        }
    }
    // The environment has no order; messages should.
    texts.sort();
    (texts, mistakes)
}

/// The configuration file and what names it.
fn named_file(flags: &Flags, env: &[(String, String)]) -> Option<(PathBuf, Origin)> {
    if let Some(path) = &flags.file {
        return Some((path.clone(), Origin::Flag("--config".to_owned())));
    }
    let (name, path) = env.iter().find(|(name, path)| name == CONFIG_VARIABLE && !path.is_empty())?;
    Some((PathBuf::from(path), Origin::Variable(name.clone())))
}

/// The file's text, or what is wrong with it.
fn read(path: &Path) -> Result<String, String> {
    if path.is_dir() {
        return Err("it is a folder; name the TOML file in it".to_owned());
    }
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file; write it, or leave the name out".to_owned(),
        _ => format!("it cannot be opened: {error}"),
    })?;
    let mut bytes = Vec::new();
    let limit = LARGEST_FILE + 1;
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
