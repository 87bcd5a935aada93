//! `embedd package`: writes or checks a tarball.

use std::path::PathBuf;

use super::outcome::{Outcome, describe};
use super::setup::{preparation, start_logging};
use crate::cli::Package;
use crate::config::Configuration;
use embedd_convert::package::{self, PackageError};
use embedd_convert::report::MARKDOWN_FILE;

pub(super) fn run(arguments: &Package, configuration: &Configuration) -> anyhow::Result<Outcome> {
    start_logging(configuration)?;
    let done = match &arguments.verify {
        Some(archive) => package::verify(archive)?,
        None => match write(arguments, configuration) {
            Err(error) if failed_gate(&error) => {
                eprintln!("error: {}", describe(&error));
                return Ok(Outcome::GateFailed);
            }
            result => result?,
        },
    };
    println!("tarball  {}", done.path.display());
    println!("sha256   {}", done.record.sha256);
    println!("folder   {}", done.folder);
    for (name, file) in &done.files {
        println!("  {:>12}  {}  {name}", file.bytes, file.sha256);
    }
    if !done.files.contains_key(MARKDOWN_FILE) {
        eprintln!("note: the tarball contains no report; `embedd convert --force` adds one to the bundle");
    }
    Ok(Outcome::Done)
}

fn write(arguments: &Package, configuration: &Configuration) -> anyhow::Result<package::Package> {
    let preparation = preparation(configuration)?;
    let bundle = preparation.bundle(&configuration.settings, || preparation.cpu_runtime())?;
    let output = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.tar.gz", arguments.name)));
    Ok(package::package(&bundle, &output, arguments.force, &preparation.progress)?)
}

/// Whether the command failed because the model is not accurate enough.
fn failed_gate(error: &anyhow::Error) -> bool {
    error.downcast_ref::<PackageError>().is_some_and(PackageError::is_gate)
}
