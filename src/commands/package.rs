//! `embedd package`: writes a tarball, or checks one.

use std::path::PathBuf;

use embedd::bundle::Bundle;
use embedd::cli::Package;
use embedd::config::Configuration;
use embedd::convert::package::{self, PackageError};
use embedd::prepare::Preparation;

use crate::{fetching, start_logging};

/// Packs the bundle that is named, or else the model's in the cache folder; or checks a tarball.
pub(crate) fn run(arguments: &Package, configuration: &Configuration) -> anyhow::Result<()> {
    start_logging(configuration)?;
    let done = match &arguments.verify {
        Some(archive) => package::verify(archive)?,
        None => write(arguments, configuration)?,
    };
    println!("tarball  {}", done.path.display());
    println!("sha256   {}", done.record.sha256);
    println!("folder   {}", done.folder);
    for (name, file) in &done.files {
        println!("  {:>12}  {}  {name}", file.bytes, file.sha256);
    }
    Ok(())
}

fn write(arguments: &Package, configuration: &Configuration) -> anyhow::Result<package::Package> {
    let (home, fetcher, progress) = fetching(configuration)?;
    let settings = &configuration.settings;
    let bundle = match &settings.bundle {
        Some(folder) => Bundle::open(folder)?,
        None => Preparation { home: &home, fetcher: &fetcher, progress: &progress }.bundle(&settings.model)?,
    };
    let output = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.tar.gz", arguments.name)));
    Ok(package::package(&bundle, &output, arguments.force, &progress)?)
}

/// Whether the command failed because the model is not accurate enough.
pub(crate) fn is_gate(error: &anyhow::Error) -> bool {
    error.downcast_ref::<PackageError>().is_some_and(PackageError::is_gate)
}
