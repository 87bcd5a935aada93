//! `embedd convert`

use std::path::PathBuf;

use clap::Args;

use super::values::{cosine, one_of};
use embedd_convert::recipe::Recipe;

/// Arguments of `embedd convert`.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Convert {
    /// Print what embedd understood of the model, from its configuration and tokenizer, instead of converting it
    #[arg(
        long,
        conflicts_with_all = [
            "output", "precision", "recipe", "reference", "min_cosine", "allow_inaccurate", "baseline", "no_report",
            "force",
        ]
    )]
    pub describe: bool,
    /// Print the description as JSON
    #[arg(long, requires = "describe")]
    pub json: bool,
    /// The folder to write the bundle to [default: the model's bundle in the cache folder]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// The precision of the portable engine's weights; fp32: no portable engine [default: int8; for GPUs: fp32]
    #[arg(
        long,
        value_name = "PRECISION",
        value_parser = one_of([("int8", Precision::Int8), ("fp16", Precision::Fp16), ("fp32", Precision::Fp32)]),
        conflicts_with = "recipe"
    )]
    pub precision: Option<Precision>,
    /// How the portable engine is quantized [default: int8-per-token]
    #[arg(long, value_name = "RECIPE", value_parser = one_of(Recipe::ALL.map(|recipe| (recipe.name(), recipe))))]
    pub recipe: Option<Recipe>,
    /// The reference set to compare with [default: the built-in one]
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// The minimum cosine to PyTorch that every text must reach [default: 0.99]
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true, value_parser = cosine)]
    pub min_cosine: Option<f64>,
    /// Write a bundle even if it fails the accuracy gate; the server rejects it
    #[arg(long)]
    pub allow_inaccurate: bool,
    /// Latencies of PyTorch and others for the report, as for `embedd bench`; -: read standard input
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Skip the benchmark and the report, which take the longest
    #[arg(long)]
    pub no_report: bool,
    /// Replace an existing bundle
    #[arg(long)]
    pub force: bool,
}

/// How the weights of the portable engine are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Quantized with the default recipe.
    Int8,
    /// In half precision.
    Fp16,
    /// Not at all: the bundle gets no portable engine.
    Fp32,
}
