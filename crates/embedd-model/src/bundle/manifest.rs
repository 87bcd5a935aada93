//! The manifest: what a bundle says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use embedd_common::checksum::{FileRecord, Sha256Hex};

/// The layout of the manifest that this version writes and reads.
pub const FORMAT: u32 = 2;

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`] of the version that wrote it.
    pub format: u32,
    /// The program and version that wrote it.
    pub created_by: String,
    /// The model's name, as its users know it.
    pub name: String,
    /// `model_type` of the source.
    pub architecture: String,
    /// What it was converted from.
    pub source: SourceRecord,
    /// Components of an embedding.
    pub dimension: u32,
    /// Tokens of a text at most by default, special tokens included.
    pub max_tokens: u32,
    /// Tokens of a text at most that the positions allow, special tokens included.
    pub position_limit: u32,
    /// How token states become one vector.
    pub pooling: Pooling,
    /// Whether texts are lower-cased before the tokeniser sees them.
    pub lowercase: bool,
    /// The models in the bundle.
    pub models: BTreeMap<Variant, ModelRecord>,
    /// Every other file of the bundle, by name.
    pub files: BTreeMap<String, FileRecord>,
}

/// What a bundle was converted from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecord {
    /// Of the source's weights: what tells one model from another.
    pub weights_sha256: Sha256Hex,
    /// Every file of the source that was read, by its path in the source's folder.
    pub files: BTreeMap<String, FileRecord>,
}

/// How token states become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean over all tokens, special tokens included.
    Mean,
    /// The state of the first token.
    Cls,
}

/// Which of a bundle's models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Float32 weights.
    Fp32,
    /// Quantised or half-precision weights, for any stock ONNX Runtime.
    Portable,
    /// INT8 weights packed for embedd's own operators.
    Native,
}

/// One model of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecord {
    /// Its file in the bundle.
    pub file: String,
    /// Its weights' file in the bundle, where the graph's own does not hold them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// The recipe by which its weights were quantised; `none` where they were not.
    pub quantization: String,
    /// Against the reference set; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<AccuracyRecord>,
}

/// How near a model's embeddings are to PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccuracyRecord {
    /// Texts of the reference set.
    pub texts: u32,
    /// The least cosine.
    pub min_cosine: f64,
    /// The cosine that 1 % of the texts are under.
    pub p1_cosine: f64,
    /// The mean cosine.
    pub mean_cosine: f64,
    /// The least cosine that a text must have.
    pub threshold: f64,
}

impl ModelRecord {
    /// Its files in the bundle, the graph first.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.file).chain(&self.weights).map(String::as_str)
    }
}

impl AccuracyRecord {
    /// Whether every text is at or above the threshold.
    pub fn passed(&self) -> bool {
        self.min_cosine >= self.threshold
    }
}

impl Manifest {
    /// A manifest's own consistency, as far as it shows without the files.
    pub fn check(&self) -> Result<(), String> {
        if self.dimension == 0 {
            return Err("dimension is 0".to_owned());
        }
        if self.max_tokens == 0 || self.max_tokens > self.position_limit {
            let limit = self.position_limit;
            return Err(format!("max_tokens is {}, and the positions allow 1 to {limit}", self.max_tokens));
        }
        for file in self.files.keys() {
            if Path::new(file).components().count() != 1 || file.starts_with('.') || file.contains(['/', '\\']) {
                return Err(format!("`{file}` is no file of the bundle"));
            }
        }
        match self.models.values().flat_map(ModelRecord::files).find(|file| !self.files.contains_key(*file)) {
            Some(file) => Err(format!("the model {file} is not among its files")),
            None => Ok(()),
        }
    }
}

impl Variant {
    /// Every one, in order.
    pub const ALL: [Self; 3] = [Self::Fp32, Self::Portable, Self::Native];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Portable => "portable",
            Self::Native => "native",
        }
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Pooling {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
        }
    }
}

impl std::fmt::Display for Pooling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
