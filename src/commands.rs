//! The commands: what each does, from a checked command line to its result. One file for each.

use crate::cli::Command;
use crate::config::Configuration;
use crate::logging;
use embedd_common::progress::Progress;
use embedd_fetch::Fetcher;
use embedd_fetch::home::Home;

mod admin;
mod bench;
mod convert;
mod embed;
mod fetch;
mod health;
mod load_test;
mod package;
mod proof;
mod report;
mod serve;
mod validate;

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Done,
    /// It did its work, and a text is below the threshold.
    GateFailed,
}

impl Outcome {
    fn of_gate(passed: bool) -> Self {
        if passed { Self::Done } else { Self::GateFailed }
    }
}

/// An error and what caused it, as one line. Most of our errors tell their cause themselves: nothing is said twice.
pub fn told(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |told, cause| {
        let cause = cause.to_string();
        if told.contains(&cause) { told } else { format!("{told}: {cause}") }
    })
}

/// Runs a command.
///
/// # Errors
/// What it failed with.
pub fn run(command: &Command, configuration: Configuration) -> anyhow::Result<Outcome> {
    match command {
        Command::Serve(serve) => serve::run(serve, configuration).map(|()| Outcome::Done),
        Command::Fetch(fetch) => fetch::run(fetch, &configuration).map(|()| Outcome::Done),
        Command::Convert(convert) => convert::run(convert, &configuration),
        Command::Package(package) => package::run(package, &configuration),
        Command::Validate(validate) => validate::run(validate, &configuration),
        Command::Bench(bench) => bench::run(bench, &configuration).map(|()| Outcome::Done),
        Command::Report(report) => report::run(report, &configuration),
        Command::Embed(embed) => embed::run(embed),
        Command::Load(load) => load_test::run(load, &configuration).map(|()| Outcome::Done),
        Command::Admin(admin) => admin::run(admin),
        Command::Health(health) => health::run(health, &configuration.settings).map(|()| Outcome::Done),
    }
}

fn fetching(configuration: &Configuration) -> anyhow::Result<(Home, Fetcher, Progress)> {
    let settings = &configuration.settings;
    let home = Home::find(settings.home.clone())?;
    let progress = Progress::auto();
    let fetcher = Fetcher::from_env(home.clone(), progress.clone())
        .offline(settings.offline)
        .runtime_library(settings.onnxruntime.clone());
    Ok((home, fetcher, progress))
}

fn start_logging(configuration: &Configuration) -> anyhow::Result<()> {
    let settings = &configuration.settings;
    Ok(logging::init(settings.log_format, &settings.log_level)?)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = anyhow!(missing()).context(format!("the file ({})", missing()));
        assert_eq!(told(&error), format!("the file ({})", missing()));
        assert_eq!(told(&anyhow!(missing()).context("the file")), format!("the file: {}", missing()));
    }
}
