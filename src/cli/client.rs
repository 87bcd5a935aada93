//! Flags of the commands that call a server.

use std::path::PathBuf;

use clap::Args;

/// The address of a server on this machine that runs with the default settings.
pub(super) const DEFAULT_SERVER: &str = "127.0.0.1:50051";

/// How client and server authenticate each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Server")]
pub struct Credentials {
    /// PEM certificates of the authorities to trust for the server [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The client's certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// The private key of --certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
    /// A file with the bearer token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}
