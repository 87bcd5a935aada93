//! The commands that measure a bundle: `validate`, `bench` and `report`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::values::{cosine, count, one_of};
use embedd_model::bundle::Variant;

/// More runs than anyone would wait for.
const MAX_RUNS: usize = 1_000_000;
/// The maximum for texts per batch and for tokens per text, beyond the limits of any model.
const MAX_SIZE: usize = 65_536;
const EXIT_CODES: &str =
    "Exit codes: 0 every text passes, 2 a text fails, 1 failed, 64 invalid usage or configuration.";

/// Arguments of `embedd validate`.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Validate {
    /// The bundle's engine to compare [default: the last of fp32, portable, native that it has]
    #[arg(long, value_name = "ENGINE", value_parser = one_of(Variant::ALL.map(|engine| (engine.name(), engine))))]
    pub variant: Option<Variant>,
    /// The reference set [default: the bundle's, else the built-in one]
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// Compare with the bundle's own fp32 engine, on the texts of --texts
    #[arg(long, value_name = "ENGINE", value_parser = ["fp32"], requires = "texts", conflicts_with = "reference")]
    pub against: Option<String>,
    /// Texts for --against: one per line, plain or as JSON with `text`
    #[arg(long, value_name = "FILE", requires = "against")]
    pub texts: Option<PathBuf>,
    /// The minimum cosine that every text must reach [default: the bundle's own threshold, else 0.99]
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true, value_parser = cosine)]
    pub min_cosine: Option<f64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print all texts, not only the worst
    #[arg(long)]
    pub all: bool,
}

/// The measurements of `bench` and `report`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Timed {
    /// Tokens per text [default: 11,32,64,128,384,512,1024,2048,4096,8192, up to the model's maximum]
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = count(MAX_SIZE))]
    pub lengths: Vec<NonZeroUsize>,
    /// Texts per batch
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = count(MAX_SIZE), default_value = "1")]
    pub batches: Vec<NonZeroUsize>,
    /// Timed runs of each engine per length and batch [default: up to 40 in 10 seconds, at least 3]
    #[arg(long, value_name = "N", value_parser = count(MAX_RUNS))]
    pub runs: Option<NonZeroUsize>,
    /// Latencies of PyTorch and others on the same model, as JSON, to show alongside; -: read standard input
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
}

/// Arguments of `embedd bench`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Bench {
    /// The measurements.
    #[command(flatten)]
    pub timed: Timed,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `embedd report`.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Report {
    /// The measurements.
    #[command(flatten)]
    pub timed: Timed,
    /// The reference set [default: the bundle's, else the built-in one]
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// The minimum cosine that every text must reach [default: the bundle's own threshold, else 0.99]
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true, value_parser = cosine)]
    pub min_cosine: Option<f64>,
    /// The folder for the three files
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
}
