//! The manifest, which describes a bundle.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Pooling;
use embedd_common::checksum::{FileRecord, Sha256Hex};

/// The manifest format that this version reads and writes.
pub const FORMAT: u32 = 4;
/// The maximum number of prompts.
pub const MAX_PROMPTS: usize = 64;
/// The maximum size of a prompt.
pub const MAX_PROMPT_BYTES: usize = 4096;
/// The maximum size of a prompt's name.
pub const MAX_PROMPT_NAME_BYTES: usize = 128;
/// Bundles have up to 15 files.
const MAX_FILES: usize = 100;
/// Names appear in metrics, replies and log lines.
const MAX_NAME_BYTES: usize = 512;
/// Far beyond the encoders that can be converted.
const MAX_DIMENSION: u32 = 1 << 16;
const MAX_POSITIONS: u32 = 1 << 20;

/// Describes a bundle: the source, the models and their accuracy, and the checksums of all files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The [`FORMAT`] of the version that wrote the manifest.
    pub format: u32,
    /// The program and version that wrote the bundle.
    pub created_by: String,
    /// The model's name as users know it, such as `sentence-transformers/all-MiniLM-L6-v2`.
    pub name: String,
    /// The `model_type` in the source's configuration.
    pub architecture: String,
    /// The checkpoint that the bundle was converted from.
    pub source: SourceRecord,
    /// The number of components of an embedding.
    pub dimension: u32,
    /// The default maximum number of tokens per text, including special tokens.
    pub max_tokens: u32,
    /// The maximum number of tokens per text that the position embeddings allow, including special tokens.
    pub position_limit: u32,
    /// How hidden states are pooled into one vector.
    pub pooling: Pooling,
    /// Whether texts are lowercased before tokenization.
    pub lowercase: bool,
    /// The texts that a request can put in front of its texts, by name. An empty one changes nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prompts: BTreeMap<String, String>,
    /// The name of the prompt of requests that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_prompt: Option<String>,
    /// Whether the tokens of a prompt are not pooled.
    #[serde(default)]
    pub exclude_prompt: bool,
    /// The models in the bundle, by engine.
    pub models: BTreeMap<Variant, ModelRecord>,
    /// All files of the bundle except the manifest, by name.
    pub files: BTreeMap<String, FileRecord>,
}

/// The checkpoint that a bundle was converted from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecord {
    /// The checksum of the source's weights, which identifies the model: of the file that holds them. For several files,
    /// it is the checksum of a line `<sha256>  <name>\n` for each, sorted by name, without their index.
    pub weights_sha256: Sha256Hex,
    /// The branch, tag or commit that was requested from the hub; `None` for models from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The commit that the hub sent for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Every source file that was read, by its path within the source folder.
    pub files: BTreeMap<String, FileRecord>,
}

/// An engine, and the model of a bundle that it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Float32 weights.
    Fp32,
    /// Float16 weights and arithmetic, for GPUs.
    Fp16,
    /// Quantized or half-precision weights, for any stock ONNX Runtime.
    Portable,
    /// INT8 weights packed for embedd's own operator.
    Native,
}

/// One model of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecord {
    /// The graph's file in the bundle.
    pub file: String,
    /// The weights file in the bundle, unless the graph's file contains the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// The recipe that quantized the weights; `none` if they were not quantized.
    pub quantization: String,
    /// The accuracy measured against the reference set; absent if there was no reference set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<AccuracyRecord>,
    /// The same for the native model with activations in bfloat16, as `amx-bf16` computes; absent if that could not be
    /// measured, or failed the accuracy gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_bf16: Option<AccuracyRecord>,
}

/// Where the embeddings come from that a model is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferenceKind {
    /// From PyTorch.
    #[default]
    PyTorch,
    /// From the float32 model of the same bundle.
    Float32,
}

/// How closely a model's embeddings match the reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccuracyRecord {
    /// Where the reference embeddings come from.
    #[serde(default)]
    pub reference: ReferenceKind,
    /// The number of texts in the reference set.
    pub texts: u32,
    /// The minimum cosine.
    pub min_cosine: f64,
    /// The 1st percentile of the cosines.
    pub p1_cosine: f64,
    /// The mean cosine.
    pub mean_cosine: f64,
    /// The minimum cosine that every text must reach.
    pub threshold: f64,
}

impl ModelRecord {
    /// The model's files in the bundle, the graph first.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.file).chain(&self.weights).map(String::as_str)
    }
}

impl AccuracyRecord {
    /// Whether every text reaches the threshold.
    pub fn passed(&self) -> bool {
        self.min_cosine >= self.threshold
    }
}

impl Manifest {
    /// Checks the manifest's internal consistency, without reading the files.
    ///
    /// # Errors
    /// A message that describes the contradiction.
    pub fn check(&self) -> Result<(), String> {
        if self.dimension == 0 || self.dimension > MAX_DIMENSION {
            return Err(format!("dimension is {}, outside the range of 1 to {MAX_DIMENSION}", self.dimension));
        }
        if self.position_limit > MAX_POSITIONS {
            return Err(format!("position_limit is {}; the maximum is {MAX_POSITIONS}", self.position_limit));
        }
        if self.files.len() > MAX_FILES {
            return Err(format!("it lists {} files; the maximum is {MAX_FILES}", self.files.len()));
        }
        let names = [("created_by", &self.created_by), ("name", &self.name), ("architecture", &self.architecture)];
        let recipes = self.models.values().map(|model| ("quantization", &model.quantization));
        for (field, name) in names.into_iter().chain(recipes) {
            if name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
                return Err(format!("{field} is not a name of at most {MAX_NAME_BYTES} bytes"));
            }
        }
        if self.max_tokens == 0 || self.max_tokens > self.position_limit {
            let limit = self.position_limit;
            return Err(format!("max_tokens is {}, outside the model's range of 1 to {limit}", self.max_tokens));
        }
        for file in self.files.keys() {
            let is_plain = Path::new(file).components().count() == 1 && !file.contains(['/', '\\', '\0']);
            if !is_plain || file.starts_with('.') || file.len() > MAX_NAME_BYTES {
                return Err(format!("`{}` is not a valid file name in a bundle", file.escape_debug()));
            }
        }
        self.check_prompts()?;
        if self.models.get(&Variant::Native).is_some_and(|model| model.weights.is_none()) {
            return Err("the native model has no `weights`".to_owned());
        }
        match self.models.values().flat_map(ModelRecord::files).find(|file| !self.files.contains_key(*file)) {
            Some(file) => Err(format!("the model file {file} is not listed in `files`")),
            None => Ok(()),
        }
    }

    fn check_prompts(&self) -> Result<(), String> {
        if self.prompts.len() > MAX_PROMPTS {
            return Err(format!("it has {} prompts; the maximum is {MAX_PROMPTS}", self.prompts.len()));
        }
        for (name, text) in &self.prompts {
            if !is_prompt_name(name) {
                return Err(format!("`{}` is not a valid name of a prompt", name.escape_debug()));
            }
            if text.len() > MAX_PROMPT_BYTES {
                return Err(format!("the prompt `{name}` has more than {MAX_PROMPT_BYTES} bytes"));
            }
        }
        match self.default_prompt.as_ref().filter(|name| !self.prompts.contains_key(*name)) {
            Some(name) => Err(format!("default_prompt is `{}`, which is not in `prompts`", name.escape_debug())),
            None => Ok(()),
        }
    }
}

/// Whether requests can use this name. Names appear in error messages, and an empty one selects no prompt.
pub fn is_prompt_name(name: &str) -> bool {
    (1..=MAX_PROMPT_NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control)
}

impl Variant {
    /// All engines.
    pub const ALL: [Self; 4] = [Self::Fp32, Self::Fp16, Self::Portable, Self::Native];

    /// The name in manifests and options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
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
