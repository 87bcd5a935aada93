//! The report on a bundle's models, as JSON, Markdown and an HTML page.
//!
//! It contains measured values only; values that were not measured are absent.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::baseline::{Baseline, Timing};
use super::benchmark::Measurement;
use super::machine::Machine;
use super::validate::Comparison;
use embedd_common::checksum::Sha256Hex;
use embedd_model::accuracy::{Accuracy, Summary, TextAccuracy};
use embedd_model::bundle::{Manifest, Variant};
use embedd_model::reference::ReferenceSet;

mod entries;
mod files;
mod format;
mod html;
mod markdown;
mod plot;

use entries::variants;
pub use entries::worst;

/// The version of the layout of report.json.
pub const SCHEMA: u32 = 1;
/// The report for programs, as JSON.
pub const JSON_FILE: &str = "report.json";
/// The report for people, as Markdown.
pub const MARKDOWN_FILE: &str = "report.md";
/// The report for people, as a page with plots.
pub const HTML_FILE: &str = "report.html";
/// The number of worst texts in the report.
pub const WORST_TEXTS: usize = 10;

/// All measurements of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The [`SCHEMA`] of the version that wrote the report.
    pub schema: u32,
    /// The model that was converted.
    pub model: ModelSummary,
    /// The models of the bundle.
    pub variants: Vec<VariantReport>,
    /// All recipes that the conversion tried, including rejected ones. Empty if they were not recorded.
    pub recipes: Vec<RecipeTried>,
    /// The reference for accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<ReferenceSummary>,
    /// Threads of each engine that was timed in this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Latency of all engines: first those of this run, then baselines.
    pub latency: Vec<LatencyRow>,
    /// The sources of rows that were not measured in this run.
    pub baselines: Vec<BaselineSummary>,
    /// Machine, versions and date.
    pub machine: Machine,
}

/// The model that was converted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in the manifest")]
pub struct ModelSummary {
    pub name: String,
    pub architecture: String,
    pub dimension: u32,
    pub max_tokens: u32,
    pub pooling: String,
    pub source_weights_sha256: Sha256Hex,
    /// Bytes of the source's weights; absent if the manifest does not list the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_weights_bytes: Option<u64>,
}

/// One model of the bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantReport {
    /// The model.
    pub variant: Variant,
    /// Its ONNX file.
    pub file: String,
    /// The recipe of its weights; `none` if they are not quantized.
    pub recipe: String,
    /// Type of most of its weights; absent for an unknown recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Total length of its files.
    pub bytes: u64,
    /// Size reduction relative to the float32 model: 0.75 means a quarter of the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduction: Option<f64>,
    /// Accuracy against the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Accuracy>,
    /// The worst texts, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst: Vec<WorstText>,
    /// The mean share of a text's ten nearest texts that are the same as in float32, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top10_overlap: Option<f64>,
    /// The minimum cosine between a text alone and in a padded batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_agreement: Option<f64>,
}

/// A recipe that the conversion tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecipeTried {
    /// Its name.
    pub recipe: String,
    /// Type of most weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Total length of the model's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Accuracy against the reference; absent if not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Summary>,
    /// As in [`VariantReport`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top10_overlap: Option<f64>,
    /// The worst texts, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst: Vec<WorstText>,
    /// Whether the bundle uses it.
    pub accepted: bool,
    /// The reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A text with low accuracy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstText {
    /// Its accuracy.
    #[serde(flatten)]
    pub figures: TextAccuracy,
    /// The start of the text.
    pub excerpt: String,
}

/// The reference for accuracy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceSummary {
    /// The file's name, or `the built-in reference set`.
    pub origin: String,
    /// Number of texts.
    pub texts: usize,
    /// The metadata of the set.
    pub provenance: BTreeMap<String, String>,
}

/// Latency of one engine for one input shape, in ms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in `Measurement`")]
pub struct LatencyRow {
    pub engine: String,
    /// The source of a row that was not measured in this run: a file's name or a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    pub tokens: usize,
    pub batch: usize,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub min_ms: f64,
    /// Values that baselines lack: runs, mean, P99, rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measurement>,
    /// PyTorch's P50 for the same shape divided by this P50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_up: Option<f64>,
}

/// A source of rows that were not measured in this run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselineSummary {
    /// A file's name or a command.
    pub origin: String,
    /// Threads of each of its engines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// PyTorch's `encode()`, including tokenization, for a text of 11 tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pytorch_encode_short: Option<Timing>,
    /// The minimum cosine to PyTorch by engine, where known.
    pub min_cosines: BTreeMap<String, f64>,
}

/// Why a report could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or folder could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not a report of this version.
    #[error("{path} is not a report of schema {SCHEMA}: {reason}; create one with `embedd report`")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
}

impl Report {
    /// The report of a manifest, without measurements.
    pub fn of(manifest: &Manifest, machine: Machine) -> Self {
        let weights = &manifest.source.weights_sha256;
        let source = manifest.source.files.values().find(|file| file.sha256 == *weights);
        let model = ModelSummary {
            name: manifest.name.clone(),
            architecture: manifest.architecture.clone(),
            dimension: manifest.dimension,
            max_tokens: manifest.max_tokens,
            pooling: manifest.pooling.to_string(),
            source_weights_sha256: weights.clone(),
            source_weights_bytes: source.map(|file| file.bytes),
        };
        Self {
            schema: SCHEMA,
            model,
            variants: variants(manifest),
            recipes: Vec::new(),
            reference: None,
            threads: None,
            latency: Vec::new(),
            baselines: Vec::new(),
            machine,
        }
    }

    /// Whether at least one model was compared and all of them passed.
    pub fn passed(&self) -> bool {
        let mut compared = self.variants.iter().filter_map(|variant| variant.accuracy.as_ref()).peekable();
        compared.peek().is_some() && compared.all(|accuracy| accuracy.summary.passed)
    }

    /// Adds the comparison of a model with a reference set.
    pub fn add_comparison(&mut self, variant: Variant, comparison: Comparison, reference: &ReferenceSet) {
        if let Some(entry) = self.variants.iter_mut().find(|entry| entry.variant == variant) {
            entry.worst = worst(&comparison.accuracy, reference);
            entry.accuracy = Some(comparison.accuracy);
            entry.top10_overlap = comparison.top10_overlap;
            entry.batch_agreement = comparison.batch_agreement.filter(|agreement| agreement.is_finite());
        }
    }

    /// Adds measurements of this run.
    pub fn add_latency(&mut self, measured: Vec<Measurement>, threads: usize) {
        self.threads = Some(threads);
        self.latency.extend(measured.into_iter().map(LatencyRow::from));
        self.compare_with_pytorch();
    }

    /// Adds measurements of another run.
    pub fn add_baseline(&mut self, baseline: &Baseline) {
        for (name, engine) in &baseline.engines {
            let row = |(&tokens, timing)| LatencyRow::from_elsewhere(name, &baseline.origin, tokens, timing);
            self.latency.extend(engine.lengths.iter().map(row));
        }
        let min_cosine =
            |(name, engine): (&String, &super::baseline::BaselineEngine)| Some((name.clone(), engine.cos_min?));
        self.baselines.push(BaselineSummary {
            origin: baseline.origin.clone(),
            threads: baseline.threads,
            pytorch_encode_short: baseline.pytorch_encode_short,
            min_cosines: baseline.engines.iter().filter_map(min_cosine).collect(),
        });
        self.compare_with_pytorch();
    }

    fn compare_with_pytorch(&mut self) {
        let pytorch: BTreeMap<_, _> = self
            .latency
            .iter()
            .filter(|row| row.engine == super::baseline::PYTORCH)
            .map(|row| ((row.tokens, row.batch), row.p50_ms))
            .collect();
        for row in &mut self.latency {
            row.speed_up = pytorch.get(&(row.tokens, row.batch)).map(|p50| p50 / row.p50_ms);
        }
    }
}

#[cfg(test)]
mod tests;
