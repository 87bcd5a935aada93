//! `embedd package`

use std::path::PathBuf;

use clap::Args;

/// Arguments of `embedd package`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 the accuracy is unknown or too low (no tarball is written), 64 \
                  invalid usage or configuration."
)]
pub struct Package {
    /// The tarball to write [default: NAME.tar.gz in the current folder]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    // The default is the name that detectors expect.
    /// The name of the tarball in the current folder, without its extension
    #[arg(
        long,
        value_name = "NAME",
        value_parser = tarball_name,
        default_value = "raxe_onnx_model_v1",
        conflicts_with = "output"
    )]
    pub name: String,
    /// Replace an existing tarball
    #[arg(long)]
    pub force: bool,
    /// Check this tarball instead of writing one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "name", "force", "bundle", "model"])]
    pub verify: Option<PathBuf>,
}

fn tarball_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.starts_with(['.', '-']) || !text.chars().all(is_plain) {
        return Err("expected letters, digits, `-`, `_` and `.`; use --output for a path".to_owned());
    }
    Ok(text.to_owned())
}
