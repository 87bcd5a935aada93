//! `embedd package`: writes a tarball, or checks one.

use std::path::PathBuf;

use crate::cli::Package;
use crate::config::Configuration;
use crate::prepare::Preparation;
use embedd_convert::package::{self, PackageError};
use embedd_convert::report::MARKDOWN_FILE;
use embedd_model::bundle::Bundle;
use embedd_model::engine::OnnxRuntime;

use super::{Outcome, fetching, start_logging, told};

/// Packs the bundle that is named, or else the model's in the cache folder; or checks a tarball.
pub(super) fn run(arguments: &Package, configuration: &Configuration) -> anyhow::Result<Outcome> {
    start_logging(configuration)?;
    let done = match &arguments.verify {
        Some(archive) => package::verify(archive)?,
        None => match write(arguments, configuration) {
            Err(error) if is_gate(&error) => {
                eprintln!("error: {}", told(&error));
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
        eprintln!("note: there is no report in it; `embedd convert --force` writes one into the bundle");
    }
    Ok(Outcome::Done)
}

fn write(arguments: &Package, configuration: &Configuration) -> anyhow::Result<package::Package> {
    let (home, fetcher, progress) = fetching(configuration)?;
    let settings = &configuration.settings;
    let bundle = match &settings.bundle {
        Some(folder) => Bundle::open(folder)?,
        None => {
            let runtime = OnnxRuntime::load(&fetcher.runtime()?)?;
            Preparation { home: &home, fetcher: &fetcher, runtime: &runtime, progress: &progress }
                .bundle(&settings.model)?
        }
    };
    let output = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.tar.gz", arguments.name)));
    Ok(package::package(&bundle, &output, arguments.force, &progress)?)
}

/// Whether the command failed because the model is not accurate enough.
fn is_gate(error: &anyhow::Error) -> bool {
    error.downcast_ref::<PackageError>().is_some_and(PackageError::is_gate)
}
