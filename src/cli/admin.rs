//! `embedd admin`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::client::Credentials;
use super::values::cosine;

/// Arguments of `embedd admin`.
#[derive(Debug, Clone, PartialEq, Args)]
// Also accepted after the action.
#[command(mut_args(|arg| arg.global(true)))]
pub struct Admin {
    /// The operation to run.
    #[command(subcommand)]
    pub action: AdminAction,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The admin listener: `host:port`, or `https://host:port` for TLS. On this machine, the token that the server has
    /// generated is sent unless another one is named
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50052", help_heading = "Server")]
    pub server: String,
    /// How client and server authenticate each other.
    #[command(flatten)]
    pub credentials: Credentials,
}

/// An operation on a running server.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum AdminAction {
    /// Compare the embeddings of the serving engine with PyTorch's
    Validate(AdminValidate),
    /// Benchmark the serving engine; client requests go first
    Benchmark(AdminBenchmark),
    /// Print statistics: requests, latencies, queue, cache and sessions
    Stats,
    /// Load and validate another bundle while still serving, then switch to it
    Reload(AdminReload),
    /// Drop all cached embeddings
    ClearCache,
}

/// Arguments of `embedd admin validate`.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(after_help = "Exit codes: 0 every text passes, 2 a text fails, 1 failed, 64 invalid usage or configuration.")]
pub struct AdminValidate {
    /// A reference set on this machine [default: that of the served bundle]
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// The minimum cosine that every text must reach [default: the bundle's own threshold, else 0.99]
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true, value_parser = cosine)]
    pub min_cosine: Option<f64>,
    /// Print all texts, not only the worst
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `embedd admin benchmark`. The server uses its defaults for those that are missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct AdminBenchmark {
    /// Tokens per text [default: 11,32,64,128,384, up to the model's maximum]
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub lengths: Vec<u32>,
    /// Texts per request [default: 1]
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub batches: Vec<u32>,
    /// Concurrent requests [default: 1]
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub concurrencies: Vec<u32>,
    /// Measured requests per combination [default: 50]
    #[arg(long, value_name = "N")]
    pub requests: Option<u32>,
}

/// Arguments of `embedd admin reload`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct AdminReload {
    /// A bundle folder on the server's machine [default: the served one, read again]
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
}
