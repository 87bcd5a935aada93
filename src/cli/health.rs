//! `embedd health`: whether a server serves.

use clap::ArgMatches;

use super::{client, config_file, flags};
use crate::config::Flags;
use embedd_client::ClientOptions;

/// `embedd health`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// No settings of its own; the server is found by those that the variables and the file give.
    pub flags: Flags,
    /// What it takes to be let in, and the server, where it is named.
    pub client: ClientOptions,
    /// Whether the settings say which server is asked.
    pub of_settings: bool,
}

pub(super) fn read(matches: &ArgMatches) -> Health {
    let of_settings = !matches.contains_id("server");
    Health { flags: flags(matches), client: client::options(matches), of_settings }
}

pub(super) fn command() -> clap::Command {
    let server = "`host:port`, or `https://host:port` for TLS [default: this machine, at the settings' health-listen, \
                  else at their listen]";
    clap::Command::new("health")
        .about("Ask a server whether it serves: for probes of containers, and for people")
        .after_help("Exit codes: 0 SERVING, 1 anything else, 64 wrong use or configuration.")
        .args(client::args().map(|arg| if arg.get_id() == "server" { arg.help(server) } else { arg }))
        .arg(config_file())
}
