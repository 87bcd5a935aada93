//! Errors from a conversion.

use std::path::PathBuf;

use super::baseline::BaselineError;
use super::benchmark::BenchmarkError;
use super::calibrate::CalibrateError;
use super::encoder::EncoderError;
use super::report::ReportError;
use super::source::SourceError;
use super::validate::ValidateError;
use super::weights::WeightsError;
use super::writer::WriterError;
use embedd_model::accuracy::Accuracy;
use embedd_model::bundle::{BundleError, Variant};
use embedd_model::engine::LoadError;
use embedd_model::reference::ReferenceError;
use embedd_model::tokenize::{TokenizeError, TokenizerError};

/// Why a conversion failed. No partial bundle remains, and an existing bundle is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The source's configuration cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source's weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The source's weights and configuration do not describe a supported encoder.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The tokenizer does not fit the model.
    #[error("{path}: {reason}")]
    Tokenizer {
        /// The tokenizer.json.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// The tokenizer cannot be loaded.
    #[error(transparent)]
    TokenizerFile(#[from] TokenizerError),
    /// The default prompt cannot be tokenized.
    #[error("the default prompt {0}")]
    Prompt(#[from] TokenizeError),
    /// The inputs of linear layers could not be observed.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
    /// A converted model cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The reference set cannot be used.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The models could not be timed.
    #[error(transparent)]
    Benchmark(#[from] BenchmarkError),
    /// The file with the latency of other programs cannot be used.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// The report could not be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The models could not be compared.
    #[error(transparent)]
    Validate(#[from] ValidateError),
    /// A model is too far from the reference.
    #[error(transparent)]
    Gate(#[from] GateFailure),
    /// The bundle could not be written.
    #[error(transparent)]
    Write(#[from] WriterError),
    /// The new bundle cannot be read.
    #[error("cannot read the new bundle: {0}")]
    Bundle(#[from] BundleError),
}

/// A model that is too far from the reference.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "the {variant} model ({recipe}) failed the accuracy gate: minimum cosine {:.5}, mean {:.5} over {} texts, threshold \
     {:.5}; worst: {}. Try another --recipe, change the threshold with --min-cosine, or write the bundle anyway with \
     --allow-inaccurate",
    accuracy.summary.min_cosine, accuracy.summary.mean_cosine, accuracy.summary.texts, accuracy.summary.threshold,
    worst_texts(accuracy)
)]
pub struct GateFailure {
    /// The model.
    pub variant: Variant,
    /// Its recipe.
    pub recipe: String,
    /// Its accuracy.
    pub accuracy: Accuracy,
}

fn worst_texts(accuracy: &Accuracy) -> String {
    let worst = accuracy.worst(5).into_iter().map(|text| format!("{} {:.5}", text.id, text.cosine));
    worst.collect::<Vec<_>>().join(", ")
}
