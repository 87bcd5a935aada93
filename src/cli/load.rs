//! `embedd load`

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::client::{Credentials, DEFAULT_SERVER};
use super::values::{count, one_of, positive_time, rate, time};
use embedd_load::plan::{Arrivals, Lengths};
use embedd_proto::Encoding;

/// More callers or texts than this are surely a typo.
const MAX_COUNT: usize = 100_000;
const MAX_CONNECTIONS: usize = 1000;

/// Arguments of `embedd load`.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Exit codes: 0 done, or interrupted after something was measured; 1 failed: no server, no successful \
                  request, or, with --verify, an embedding that differs; 64 invalid usage. docs/LOAD.md explains \
                  the figures."
)]
pub struct Load {
    /// How requests arrive.
    #[command(flatten)]
    pub steps: StepArgs,
    /// The texts to embed.
    #[command(flatten)]
    pub texts: TextArgs,
    /// The options of each request.
    #[command(flatten)]
    pub request: RequestArgs,
    /// Where results are written, in addition to standard output.
    #[command(flatten)]
    pub results: ResultFiles,
    /// `host:port`, or `https://host:port` for TLS
    #[arg(long, value_name = "URL", default_value = DEFAULT_SERVER, help_heading = "Server")]
    pub server: String,
    /// How client and server authenticate each other.
    #[command(flatten)]
    pub credentials: Credentials,
}

/// The steps of a load test: a closed loop of callers, or an open loop of requests.
#[derive(Debug, Clone, PartialEq, Args)]
#[command(next_help_heading = "Load")]
pub struct StepArgs {
    /// Closed loop: concurrent callers, one step for each number
    #[arg(
        long,
        value_name = "N,N",
        value_delimiter = ',',
        allow_negative_numbers = true,
        value_parser = count(MAX_COUNT),
        default_value = "1,2,4,8,16,32,64",
        conflicts_with = "rate"
    )]
    pub concurrency: Vec<NonZeroUsize>,
    /// Open loop: requests per second, one step for each number
    #[arg(long, value_name = "N,N", value_delimiter = ',', allow_negative_numbers = true, value_parser = rate)]
    pub rate: Vec<f64>,
    /// How the requests of --rate are spread over time
    #[arg(
        long,
        value_name = "KIND",
        value_parser = one_of([("poisson", Arrivals::Poisson), ("constant", Arrivals::Constant)]),
        default_value = "poisson",
        requires = "rate"
    )]
    pub arrivals: Arrivals,
    /// Maximum unanswered requests with --rate; further ones are not sent
    #[arg(long, value_name = "N", value_parser = count(MAX_COUNT), default_value = "1000", requires = "rate")]
    pub max_in_flight: NonZeroUsize,
    /// Measured time per step
    #[arg(long, value_name = "TIME", value_parser = positive_time, default_value = "10s")]
    pub duration: Duration,
    /// Unmeasured time at the start of each step
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "2s")]
    pub warm_up: Duration,
    /// HTTP/2 connections [default: one per caller, at most 8]
    #[arg(long, value_name = "N", value_parser = count(MAX_CONNECTIONS))]
    pub connections: Option<NonZeroUsize>,
}

/// The texts of a load test.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Texts", group(ArgGroup::new("finite").args(["texts", "distinct"])))]
pub struct TextArgs {
    // Prompt-injection detectors embed short texts of about 11 tokens.
    /// Generated texts: tokens per text, special tokens included
    #[arg(long, value_name = "N|N-N", default_value = "11")]
    pub tokens: Lengths,
    /// Generated texts: draw from N texts [default: every text is different]
    #[arg(long, value_name = "N", value_parser = count(MAX_COUNT))]
    pub distinct: Option<NonZeroUsize>,
    /// Draw from the texts in this file: one per line, plain or as JSON with `text`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tokens", "distinct"])]
    pub texts: Option<PathBuf>,
    /// The same seed gives the same texts and arrivals
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,
}

/// The requests of a load test.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Requests")]
pub struct RequestArgs {
    /// Texts per request
    #[arg(long, value_name = "N", value_parser = count(MAX_COUNT), default_value = "1")]
    pub texts_per_request: NonZeroUsize,
    /// Compute every embedding instead of using the server's cache: the default
    #[arg(long, conflicts_with = "cache")]
    pub skip_cache: bool,
    /// Let the server answer from its cache
    #[arg(long)]
    pub cache: bool,
    /// The deadline of each request [default: none]
    #[arg(long, value_name = "TIME", value_parser = positive_time)]
    pub deadline: Option<Duration>,
    /// How vectors are encoded in replies
    #[arg(
        long,
        value_name = "KIND",
        value_parser = one_of([("float", Encoding::Float), ("bytes", Encoding::Bytes)]),
        default_value = "float"
    )]
    pub encoding: Encoding,
    /// Compare every embedding bit by bit with that of the same text embedded alone; needs --texts or --distinct
    #[arg(long, requires = "finite")]
    pub verify: bool,
}

/// The files that results are written to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Results")]
pub struct ResultFiles {
    /// Write results as CSV
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write results as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write results as an HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}
