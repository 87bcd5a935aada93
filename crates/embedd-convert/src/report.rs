//! The report: what is known of a bundle's models, as JSON, Markdown and one HTML page.
//!
//! It holds what was measured and nothing else: what was not is absent.

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

/// The layout of report.json that this version writes and reads.
pub const SCHEMA: u32 = 1;
/// The report for programs.
pub const JSON_FILE: &str = "report.json";
/// The report for people, as text.
pub const MARKDOWN_FILE: &str = "report.md";
/// The report for people, with plots.
pub const HTML_FILE: &str = "report.html";
/// How many of the worst texts are told.
pub const WORST_TEXTS: usize = 10;

/// Everything that is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`] of the version that wrote it.
    pub schema: u32,
    /// The model that was converted.
    pub model: ModelSummary,
    /// The models of the bundle.
    pub variants: Vec<VariantReport>,
    /// Every recipe that conversion tried, refused ones, too. Empty where that was not recorded.
    pub recipes: Vec<RecipeTried>,
    /// What accuracy was measured against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<ReferenceSummary>,
    /// Threads of every engine that was timed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Latency of every engine, those of baselines behind those timed here.
    pub latency: Vec<LatencyRow>,
    /// Where the rows that were not measured here come from.
    pub baselines: Vec<BaselineSummary>,
    /// Where and when.
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
    /// Bytes of the source's weights; absent where the manifest does not list the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_weights_bytes: Option<u64>,
}

/// One model of the bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariantReport {
    /// Which one.
    pub variant: Variant,
    /// Its file.
    pub file: String,
    /// The recipe of its weights; `none` where they were not quantised.
    pub recipe: String,
    /// What most of its weights are stored as, as far as the recipe's name tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Length of its file.
    pub bytes: u64,
    /// The share of the float32 model's bytes that it saves: 0.75 where a quarter is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduction: Option<f64>,
    /// Against the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Accuracy>,
    /// The worst texts, the worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst: Vec<WorstText>,
    /// The least cosine between a text alone and in a padded batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_agreement: Option<f64>,
}

/// A recipe that conversion tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecipeTried {
    /// Its name.
    pub recipe: String,
    /// What most weights are stored as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Length of the file that it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Against the reference; absent where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Summary>,
    /// The worst texts, the worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worst: Vec<WorstText>,
    /// Whether it became the bundle's.
    pub accepted: bool,
    /// Why, or why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A text that is far from its reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstText {
    /// Its figures.
    #[serde(flatten)]
    pub figures: TextAccuracy,
    /// Its beginning.
    pub excerpt: String,
}

/// What accuracy was measured against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceSummary {
    /// The file's name, or that it comes with embedd.
    pub origin: String,
    /// How many texts.
    pub texts: usize,
    /// What the set says of itself.
    pub provenance: BTreeMap<String, String>,
}

/// Latency of one engine for one shape of input, in ms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in `Measurement`")]
pub struct LatencyRow {
    pub engine: String,
    /// Where a row comes from that was not measured in this run: a file's name, or a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    pub tokens: usize,
    pub batch: usize,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub min_ms: f64,
    /// What a baseline does not have: runs, mean, P99, rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measurement>,
    /// How many times PyTorch's P50 for the same tokens is this P50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_up: Option<f64>,
}

/// Where rows come from that were not measured in this run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselineSummary {
    /// A file's name, or a command.
    pub origin: String,
    /// Threads of its engines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// PyTorch as its users call it, tokeniser included, on a text of 11 tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pytorch_encode_short: Option<Timing>,
    /// The least cosine to PyTorch of each engine that has one.
    pub min_cosines: BTreeMap<String, f64>,
}

/// Why a report could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or folder.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no report, or one of another version.
    #[error("{path} is no report of schema {SCHEMA}: {reason}; `embedd report` writes one")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Report {
    /// What a manifest tells; nothing is measured yet.
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

    /// Whether every model that was compared passed, and at least one was.
    pub fn passed(&self) -> bool {
        let mut compared = self.variants.iter().filter_map(|variant| variant.accuracy.as_ref()).peekable();
        compared.peek().is_some() && compared.all(|accuracy| accuracy.summary.passed)
    }

    /// Adds what a comparison of one of the models with a reference set found.
    pub fn add_comparison(&mut self, variant: Variant, comparison: Comparison, reference: &ReferenceSet) {
        if let Some(entry) = self.variants.iter_mut().find(|entry| entry.variant == variant) {
            entry.worst = worst(&comparison.accuracy, reference);
            entry.accuracy = Some(comparison.accuracy);
            entry.batch_agreement = comparison.batch_agreement.filter(|agreement| agreement.is_finite());
        }
    }

    /// Adds the engines that were timed.
    pub fn add_latency(&mut self, measured: Vec<Measurement>, threads: usize) {
        self.threads = Some(threads);
        self.latency.extend(measured.into_iter().map(LatencyRow::from));
        self.compare_with_pytorch();
    }

    /// Adds engines that were timed elsewhere.
    pub fn add_baseline(&mut self, baseline: &Baseline) {
        for (name, engine) in &baseline.engines {
            let row = |(&tokens, timing)| LatencyRow::from_elsewhere(name, &baseline.origin, tokens, timing);
            self.latency.extend(engine.lengths.iter().map(row));
        }
        let least = |(name, engine): (&String, &super::baseline::BaselineEngine)| Some((name.clone(), engine.cos_min?));
        self.baselines.push(BaselineSummary {
            origin: baseline.origin.clone(),
            threads: baseline.threads,
            pytorch_encode_short: baseline.pytorch_encode_short,
            min_cosines: baseline.engines.iter().filter_map(least).collect(),
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
