//! The command line: commands, flags, and the exit code for invalid usage.
//!
//! Commands and their arguments are derived from the types in the submodules. The flags for settings come from the
//! table in [`config`](crate::config). Their values stay text here, so that mistakes in flags are reported together
//! with mistakes in other sources.

mod admin;
mod client;
mod convert;
mod embed;
mod fetch;
mod health;
mod load;
mod measure;
mod package;
mod serve;
mod settings;
mod values;

use std::ffi::OsString;
use std::io::{self, Write as _};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::Flags;

pub use admin::{Admin, AdminAction, AdminBenchmark, AdminReload, AdminValidate};
pub use client::Credentials;
pub use convert::{Convert, Precision};
pub use embed::{Embed, Output, RequestOptions};
pub use fetch::Fetch;
pub use health::Health;
pub use load::{Load, RequestArgs, ResultFiles, StepArgs, TextArgs};
pub use measure::{Bench, Report, Timed, Validate};
pub use package::Package;
pub use serve::Serve;

/// The exit code for invalid usage and for an invalid configuration (`EX_USAGE` in sysexits).
pub const WRONG_USE: u8 = 64;

/// The command that runs if none is named.
const DEFAULT_COMMAND: &str = "serve";

/// A parsed command line.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The command and its own arguments.
    pub command: Command,
    /// The settings given as flags.
    pub flags: Flags,
}

#[derive(Debug, Parser)]
#[command(
    name = "embedd",
    version,
    about = env!("CARGO_PKG_DESCRIPTION"),
    after_help = "Without a command, embedd serves: `embedd --listen ADDRESS` is `embedd serve --listen ADDRESS`.",
    max_term_width = 120,
    subcommand_required = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// A command with its arguments, except the flags of settings.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Serve embeddings over gRPC (the default command)
    Serve(Serve),
    /// Fetch a model and the ONNX Runtime library into the cache folder
    Fetch(Fetch),
    /// Convert a model into a bundle: ONNX and INT8, compared with PyTorch
    Convert(Convert),
    /// Pack a bundle's INT8 models, tokenizer and report into a tarball
    Package(Package),
    /// Compare a bundle's embeddings with PyTorch's
    Validate(Validate),
    /// Time a bundle's engines side by side
    Bench(Bench),
    /// Validate and time a bundle's engines, and write report.json, report.md and report.html
    Report(Report),
    /// Embed texts on a server and print the embeddings
    Embed(Embed),
    /// Load-test a server: measure throughput and latency
    Load(Load),
    /// Validate, measure, inspect or reload a running server through its admin listener
    Admin(Admin),
    /// Check whether a server is serving, for example in a container health check
    Health(Health),
}

/// A reason to exit without running a command: help or the version was requested, or the arguments are invalid.
#[derive(Debug)]
pub struct Exit(clap::Error);

impl Exit {
    /// 0 for help and version, [`WRONG_USE`] otherwise.
    pub fn code(&self) -> u8 {
        if self.0.use_stderr() { WRONG_USE } else { 0 }
    }

    /// Writes the text: help and version to stdout, errors to stderr.
    ///
    /// # Errors
    /// The stream's error, such as a closed pipe.
    pub fn print(&self) -> io::Result<()> {
        self.0.print()?;
        io::stdout().flush()
    }

    /// The text without colors.
    pub fn text(&self) -> String {
        self.0.render().to_string()
    }
}

/// Parses the arguments. The first one is the program's own name.
///
/// # Errors
/// [`Exit`] if there is no command to run.
pub fn parse(args: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Invocation, Exit> {
    let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if args.is_empty() {
        args.push("embedd".into());
    }
    if lacks_command(args.get(1)) {
        args.insert(1, DEFAULT_COMMAND.into());
    }
    let matches = command().try_get_matches_from(args).map_err(Exit)?;
    let CommandLine { command } = CommandLine::from_arg_matches(&matches).map_err(Exit)?;
    let flags = matches.subcommand().map(|(_, matches)| settings::flags(matches)).unwrap_or_default();
    Ok(Invocation { command, flags })
}

/// A leading flag belongs to the default command, unless it is one of the program's own.
fn lacks_command(first: Option<&OsString>) -> bool {
    let Some(first) = first else { return true };
    let is_own = ["-h", "--help", "-V", "--version"].iter().any(|flag| first == flag);
    first.as_encoded_bytes().starts_with(b"-") && !is_own
}

/// The whole command line, for parsing and for documentation.
pub fn command() -> clap::Command {
    CommandLine::command().mut_subcommands(settings::add_to)
}

#[cfg(test)]
mod tests;
