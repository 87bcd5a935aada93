//! `embedd package`: its flags.

use std::path::PathBuf;

use clap::{Arg, ArgMatches};

use super::{config_file, flags, path, setting, shared_settings, switch};
use crate::config::{Flags, by_key};

/// The tarball's name where none is given, without its ending: the one that detectors expect.
const DEFAULT_NAME: &str = "raxe_onnx_model_v1";

/// `embedd package`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Settings given as flags.
    pub flags: Flags,
    /// The tarball; none: `name` with its ending in the current folder.
    pub output: Option<PathBuf>,
    /// What the tarball is called, without `.tar.gz`.
    pub name: String,
    /// Replace a tarball that is there already.
    pub force: bool,
    /// Check this tarball instead of writing one.
    pub verify: Option<PathBuf>,
}

impl Default for Package {
    fn default() -> Self {
        Self { flags: Flags::default(), output: None, name: DEFAULT_NAME.to_owned(), force: false, verify: None }
    }
}

pub(super) fn read(matches: &ArgMatches) -> Package {
    let path = |key| matches.get_one::<PathBuf>(key).cloned();
    Package {
        flags: flags(matches),
        output: path("output"),
        name: matches.get_one("name").cloned().unwrap_or_else(|| DEFAULT_NAME.to_owned()),
        force: matches.get_flag("force"),
        verify: path("verify"),
    }
}

pub(super) fn command() -> clap::Command {
    let output = path("output", "FILE", "The tarball [default: NAME.tar.gz in the current folder]");
    let name = Arg::new("name")
        .long("name")
        .value_name("NAME")
        .value_parser(tarball_name)
        .conflicts_with("output")
        .help(format!("What the tarball in the current folder is called [default: {DEFAULT_NAME}]"));
    let verify = path("verify", "FILE", "Check this tarball instead of writing one")
        .conflicts_with_all(["output", "name", "force", "bundle", "model"]);
    clap::Command::new("package")
        .about("Pack a bundle's INT8 models, its tokeniser and report into a tarball")
        .after_help(
            "Exit codes: 0 done, 1 failed, 2 the model's accuracy is unknown or too low (no tarball is written), 64 \
             wrong use or configuration.",
        )
        .args([output, name, switch("force", "Replace a tarball that is there already"), verify, config_file()])
        .args(
            by_key("bundle")
                .map(|bundle| setting(bundle).help("Pack this bundle [default: the model's in the cache folder]")),
        )
        .args(shared_settings())
}

fn tarball_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.starts_with(['.', '-']) || !text.chars().all(plain) {
        return Err("it may hold letters, digits, `-`, `_` and `.`; --output takes a path".to_owned());
    }
    Ok(text.to_owned())
}
