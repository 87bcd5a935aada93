//! `embedd admin`: what is asked of a running server by those who run it.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, value_parser};

use super::proof::{json, least};
use super::{client, path, switch};
use crate::config::Flags;
use embedd_client::ClientOptions;

/// The server that is called where none is named: the admin listener of the default settings, on this machine.
const DEFAULT_SERVER: &str = "http://127.0.0.1:50052";

/// `embedd admin`
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Settings are the server's own.
    pub flags: Flags,
    /// The server.
    pub client: ClientOptions,
    /// Print JSON.
    pub json: bool,
    /// What it is asked to do.
    pub action: AdminAction,
}

/// What a server is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub enum AdminAction {
    /// Compare its embeddings with a reference.
    Validate {
        /// A reference set on this machine instead of the server's.
        reference: Option<PathBuf>,
        /// The least cosine that a text must have.
        min_cosine: Option<f64>,
        /// Print every text.
        all: bool,
    },
    /// Measure itself. Empty: the usual.
    Benchmark {
        /// Tokens of a text.
        lengths: Vec<u32>,
        /// Texts of a request.
        batches: Vec<u32>,
        /// Requests under way at once.
        concurrencies: Vec<u32>,
        /// Requests of each combination.
        requests: Option<u32>,
    },
    /// Tell what it has been doing.
    Stats,
    /// Serve another bundle.
    Reload {
        /// Its folder on the server's machine; none: the one being served, read again.
        bundle: Option<PathBuf>,
    },
    /// Forget the embeddings that it has kept.
    ClearCache,
}

pub(super) fn read(matches: &ArgMatches) -> Option<Admin> {
    let (name, matches) = matches.subcommand()?;
    let numbers = |name: &str| matches.get_many::<u32>(name).into_iter().flatten().copied().collect();
    let action = match name {
        "validate" => AdminAction::Validate {
            reference: matches.get_one("reference").cloned(),
            min_cosine: matches.get_one("min-cosine").copied(),
            all: matches.get_flag("all"),
        },
        "benchmark" => AdminAction::Benchmark {
            lengths: numbers("lengths"),
            batches: numbers("batches"),
            concurrencies: numbers("concurrencies"),
            requests: matches.get_one("requests").copied(),
        },
        "stats" => AdminAction::Stats,
        "reload" => AdminAction::Reload { bundle: matches.get_one("bundle").cloned() },
        _ => AdminAction::ClearCache,
    };
    let server = matches.get_one::<String>("server").cloned().unwrap_or_else(|| DEFAULT_SERVER.to_owned());
    let client = ClientOptions { server, ..client::options(matches) };
    Some(Admin { flags: Flags::default(), client, json: matches.get_flag("json"), action })
}

pub(super) fn command() -> clap::Command {
    clap::Command::new("admin")
        .about("Ask a running server, at its admin listener, to prove, measure or change itself")
        .subcommand_required(true)
        .subcommands([validate(), benchmark(), stats(), reload(), clear_cache()].map(|command| {
            command.arg(json()).args(client::args().map(|arg| match arg.get_id().as_str() {
                "server" => arg.help(format!("The admin listener, `https://` for TLS [default: {DEFAULT_SERVER}]")),
                _ => arg,
            }))
        }))
}

fn validate() -> clap::Command {
    let reference = path("reference", "FILE", "A reference set on this machine [default: that of the bundle served]");
    clap::Command::new("validate")
        .about("Compare the embeddings of the serving engine with PyTorch's")
        .after_help("Exit codes: 0 every text passes, 2 one does not, 1 failed, 64 wrong use or configuration.")
        .args([reference, least(), switch("all", "Print every text, not the worst ones only")])
}

fn benchmark() -> clap::Command {
    let number = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_parser(value_parser!(u32)).value_name("N").help(help)
    };
    let list = |name, help| number(name, help).value_delimiter(',').value_name("N,N");
    clap::Command::new("benchmark").about("Measure the serving engine; requests of others go first").args([
        list("lengths", "Tokens of a text [default: 11,32,64,128,384, up to the model's maximum]"),
        list("batches", "Texts of a request [default: 1]"),
        list("concurrencies", "Requests under way at once [default: 1]"),
        number("requests", "Measured requests for each combination [default: 50]"),
    ])
}

fn stats() -> clap::Command {
    clap::Command::new("stats").about("Tell what the server has been doing")
}

fn reload() -> clap::Command {
    let bundle = path("bundle", "DIR", "A bundle on the server's machine [default: the one being served, read again]");
    clap::Command::new("reload")
        .about("Load a bundle beside the one being served, prove it, and serve it from then on")
        .arg(bundle)
}

fn clear_cache() -> clap::Command {
    clap::Command::new("clear-cache").about("Forget the embeddings that the server has kept")
}
