//! What embedd understood of a model: the parts that a conversion would lower. The weights are not read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use super::source::DisentangledConfig;
use super::source::{ModuleConfig, ModuleKind, Source};
use super::weights::{Checkpoint, WeightsError};
use embedd_kernels::Activation;
use embedd_model::bundle::Pooling;
use embedd_model::tokenize::Tokenizer;

mod encoder;
mod text;

pub use encoder::{
    AttentionDescription, EmbeddingsDescription, EncoderDescription, FeedForwardDescription, Normalized,
    NormsDescription, PositionTable, PositionsDescription, RotaryDescription, Window,
};

/// What embedd understood of a model from its configuration and its tokenizer. The names are those of the manifest, as
/// far as it has them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelDescription {
    /// The name in the API and in bundles.
    pub name: String,
    /// Where the model is from.
    pub source: ModelOrigin,
    /// The `model_type`.
    pub architecture: &'static str,
    /// From tokens to hidden states.
    pub encoder: EncoderDescription,
    /// From hidden states to a vector.
    pub pooling: Pooling,
    /// Whether the pooling ignores the tokens of prompts.
    pub exclude_prompt: bool,
    /// What happens to the pooled vector before it is normalized, in order.
    pub modules: Vec<ModuleDescription>,
    /// The number of components to which embeddings are cut, if they are.
    pub truncate_dim: Option<usize>,
    /// The number of components of an embedding, after the cut.
    pub dimension: usize,
    /// The default of the maximum number of tokens of a text, including special tokens.
    pub max_tokens: u32,
    /// The largest possible maximum.
    pub position_limit: u32,
    /// Texts that may be put in front of the texts to embed, by name.
    pub prompts: BTreeMap<String, String>,
    /// The name of the prompt for requests that name none.
    pub default_prompt: Option<String>,
    /// From texts to tokens.
    pub tokenizer: TokenizerDescription,
    /// The weights of the transformer, then those of the modules that have some.
    pub weights: Vec<WeightFiles>,
}

/// Where a model is from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ModelOrigin {
    /// The user's own folder.
    Folder {
        /// Its path.
        folder: PathBuf,
    },
    /// The Hugging Face hub.
    Hub {
        /// `organization/name`.
        model: String,
        /// The requested branch, tag or commit.
        revision: String,
        /// The commit of that revision, if it is known.
        commit: Option<String>,
    },
}

/// A module after the pooling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type")]
#[allow(missing_docs, reason = "the fields are those of sentence-transformers")]
pub enum ModuleDescription {
    /// A linear layer, then an activation if there is one.
    Dense { folder: PathBuf, in_features: usize, out_features: usize, bias: bool, activation: Option<Activation> },
    /// Layer normalization over the components.
    LayerNorm { folder: PathBuf, dimension: usize },
}

/// A tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenizerDescription {
    /// The algorithm that splits words into tokens, such as `WordPiece`.
    pub model: &'static str,
    /// The number of tokens, including added ones.
    pub vocab_size: usize,
    /// Whether texts are lowercased.
    pub lowercase: bool,
}

/// Files with weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WeightFiles {
    /// Paths in the model's folder.
    pub files: Vec<String>,
    /// Whether they exist. If not, the first one that the model has will be read.
    pub found: bool,
}

impl ModelDescription {
    /// Describes the model as a conversion sees it.
    ///
    /// # Errors
    /// [`WeightsError`] if an index of weights cannot be read.
    pub(crate) fn of(
        source: &Source,
        tokenizer: &Tokenizer,
        name: String,
        origin: ModelOrigin,
    ) -> Result<Self, WeightsError> {
        let transformer = std::iter::once(source.transformer.as_path());
        let folders = transformer.chain(source.modules.iter().map(|module| module.folder.as_path()));
        Ok(Self {
            name,
            source: origin,
            architecture: source.config.architecture.model_type,
            encoder: EncoderDescription::of(&source.config),
            pooling: source.pooling.clone(),
            exclude_prompt: source.exclude_prompt,
            modules: source.modules.iter().map(module).collect(),
            truncate_dim: source.truncation,
            dimension: source.dimension(),
            max_tokens: source.token_limit(),
            position_limit: source.config.position_limit() as u32,
            prompts: source.prompts.clone(),
            default_prompt: source.default_prompt.clone(),
            tokenizer: TokenizerDescription {
                model: tokenizer.model_type(),
                vocab_size: tokenizer.vocab_size(),
                lowercase: tokenizer.lowercases(),
            },
            weights: folders.map(|folder| weights(&source.folder, folder)).collect::<Result<_, _>>()?,
        })
    }
}

fn module(config: &ModuleConfig) -> ModuleDescription {
    let folder = config.folder.clone();
    match config.kind {
        ModuleKind::Dense { inputs, outputs, bias, activation } => {
            ModuleDescription::Dense { folder, in_features: inputs, out_features: outputs, bias, activation }
        }
        ModuleKind::LayerNorm { channels } => ModuleDescription::LayerNorm { folder, dimension: channels },
    }
}

/// The weights in a folder of the model.
fn weights(model: &Path, folder: &Path) -> Result<WeightFiles, WeightsError> {
    let relative = |file: &str| folder.join(file).to_string_lossy().into_owned();
    match Checkpoint::find(&model.join(folder)) {
        Ok(checkpoint) => Ok(WeightFiles { files: checkpoint.files().map(relative).collect(), found: true }),
        Err(WeightsError::NotFound { .. }) => {
            Ok(WeightFiles { files: Checkpoint::candidates().map(relative).collect(), found: false })
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
