//! Runs the commands; one file per command.

use crate::cli::Command;
use crate::config::Configuration;

mod admin;
mod bench;
mod client;
mod convert;
mod embed;
mod fetch;
mod health;
mod load;
mod measured;
mod outcome;
mod package;
mod report;
mod serve;
mod setup;
mod validate;

pub use outcome::{Outcome, describe};

/// Runs a command.
///
/// # Errors
/// The error that the command failed with.
pub fn run(command: &Command, configuration: Configuration) -> anyhow::Result<Outcome> {
    match command {
        Command::Serve(serve) => serve::run(serve, configuration),
        Command::Fetch(fetch) => fetch::run(fetch, &configuration),
        Command::Convert(convert) => convert::run(convert, &configuration),
        Command::Package(package) => package::run(package, &configuration),
        Command::Validate(validate) => validate::run(validate, &configuration),
        Command::Bench(bench) => bench::run(bench, &configuration),
        Command::Report(report) => report::run(report, &configuration),
        Command::Embed(embed) => embed::run(embed),
        Command::Load(load) => load::run(load, &configuration),
        Command::Admin(admin) => admin::run(admin),
        Command::Health(health) => health::run(health, &configuration.settings),
    }
}
