//! Why a conversion failed.

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
use embedd_model::tokenize::TokenizerError;

/// Why a conversion failed. Nothing is left behind, and an older bundle stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The source's configuration cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source's weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The source's weights and configuration do not make an encoder.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The tokeniser does not fit the model.
    #[error("{path}: {reason}")]
    Tokenizer {
        /// The tokenizer.json.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tokeniser cannot be used.
    #[error(transparent)]
    TokenizerFile(#[from] TokenizerError),
    /// The inputs of linear layers could not be looked at.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
    /// A model that was written cannot be run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The reference set cannot be used.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The models could not be timed.
    #[error(transparent)]
    Benchmark(#[from] BenchmarkError),
    /// The times of other programs cannot be used.
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
    /// The bundle that was written cannot be read.
    #[error("the bundle that was written cannot be read: {0}")]
    Bundle(#[from] BundleError),
}

/// A model that is too far from the reference.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "the {variant} model ({recipe}) is too far from the reference: least cosine {:.5}, mean {:.5} over {} texts, and \
     the gate is {:.5}; worst: {}. Another --recipe may do better; --min-cosine moves the gate; --allow-inaccurate \
     writes the bundle all the same",
    accuracy.summary.min_cosine, accuracy.summary.mean_cosine, accuracy.summary.texts, accuracy.summary.threshold,
    worst_texts(accuracy)
)]
pub struct GateFailure {
    /// Which of the bundle's models.
    pub variant: Variant,
    /// How it was quantised.
    pub recipe: String,
    /// The figures.
    pub accuracy: Accuracy,
}

fn worst_texts(accuracy: &Accuracy) -> String {
    let worst = accuracy.worst(5).into_iter().map(|text| format!("{} {:.5}", text.id, text.cosine));
    worst.collect::<Vec<_>>().join(", ")
}
