//! `embedd embed`

use std::time::Duration;

use clap::{Args, value_parser};

use super::client::{Credentials, DEFAULT_SERVER};
use super::values::{one_of, positive_time};
use embedd_client::Truncation;

/// Arguments of `embedd embed`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Each embedding is a JSON object: `index` (from 0), `embedding`, `token_count`, `truncated`, \
                  `cached`. Lines of standard input are embedded as they arrive and printed in input order. Texts that \
                  cannot be embedded are reported on standard error by number (from 1) and left out. Exit codes: 0 all \
                  texts are embedded, 1 some are not or no server answers, 64 invalid usage.")]
pub struct Embed {
    /// The texts [default: the lines of standard input]
    #[arg(value_name = "TEXT")]
    pub texts: Vec<String>,
    /// One object per line, or one array
    #[arg(
        long,
        value_name = "FORMAT",
        value_parser = one_of([("jsonl", Output::JsonLines), ("json", Output::Json)]),
        default_value = "jsonl"
    )]
    pub output: Output,
    /// Print each text with its embedding
    #[arg(long)]
    pub with_text: bool,
    /// The options of each request.
    #[command(flatten)]
    pub request: RequestOptions,
    /// `host:port`, `https://host:port` for TLS, several separated by commas, or `dns:///host:port` for every address
    /// of a name
    #[arg(long, value_name = "URL,URL", default_value = DEFAULT_SERVER, help_heading = "Server")]
    pub server: String,
    /// How client and server authenticate each other.
    #[command(flatten)]
    pub credentials: Credentials,
}

/// How texts are embedded.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Requests")]
pub struct RequestOptions {
    /// Keep only the first N components of each vector [default: all]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub dimensions: Option<u32>,
    /// Do not scale vectors to L2 norm 1
    #[arg(long)]
    pub no_normalize: bool,
    /// How texts that are too long are handled: cut off at the end or the start, or rejected [default: the server's]
    #[arg(
        long,
        value_name = "SIDE",
        value_parser =
            one_of([("end", Truncation::End), ("start", Truncation::Start), ("reject", Truncation::Reject)])
    )]
    pub truncation: Option<Truncation>,
    /// The name of the model's prompt to put in front of each text; empty: no prompt [default: the server's]
    #[arg(long, value_name = "NAME")]
    pub prompt: Option<String>,
    /// Compute every embedding instead of using the server's cache
    #[arg(long)]
    pub skip_cache: bool,
    /// The deadline of each request, retries included [default: none]
    #[arg(long, value_name = "TIME", value_parser = positive_time)]
    pub deadline: Option<Duration>,
}

/// How embeddings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// One object per line.
    JsonLines,
    /// One array of objects.
    Json,
}
