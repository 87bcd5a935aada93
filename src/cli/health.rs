//! `embedd health`

use clap::Args;

use super::client::Credentials;

/// Arguments of `embedd health`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(after_help = "Exit codes: 0 SERVING, 1 anything else, 64 invalid usage or configuration.")]
pub struct Health {
    /// `host:port`, or `https://host:port` for TLS [default: this machine, at the settings' health-listen, else listen]
    #[arg(long, value_name = "URL", help_heading = "Server")]
    pub server: Option<String>,
    /// How client and server authenticate each other.
    #[command(flatten)]
    pub credentials: Credentials,
}
