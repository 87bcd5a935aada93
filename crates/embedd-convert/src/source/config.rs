//! Reads `config.json`: the settings that determine the encoder, with transformers' defaults.

use std::path::Path;

use super::SourceError;
use crate::architecture::{self, Architecture, FirstPosition, Positions};
use embedd_kernels::{Activation, Heads};

mod disentangled;
mod fields;
mod layers;

pub use disentangled::DisentangledConfig;
use fields::Fields;
pub(crate) use layers::LayerConfig;

/// The settings of an encoder.
#[derive(Debug, Clone)]
pub(crate) struct ModelConfig {
    pub(crate) architecture: &'static Architecture,
    /// Channels of a token's hidden state.
    pub(crate) hidden_size: usize,
    pub(crate) heads: Heads,
    /// The square of the number by which attention scores are divided.
    pub(crate) squared_divisor: usize,
    /// Channels after the activation of a feed-forward network.
    pub(crate) intermediate_size: usize,
    pub(crate) activation: Activation,
    pub(crate) vocab_size: usize,
    /// The maximum number of positions; rows of the position table if there is one.
    pub(crate) positions: usize,
    pub(crate) has_position_table: bool,
    /// Rows of the token type table; 0 if there is none.
    pub(crate) token_types: usize,
    /// Channels of an embedding.
    pub(crate) embedding_size: usize,
    /// The value that norms add to the variance.
    pub(crate) epsilon: f32,
    /// The padding token's id, if the architecture's positions depend on it.
    pub(crate) padding: Option<usize>,
    /// In order, starting at the input.
    pub(crate) layers: Vec<LayerConfig>,
    pub(crate) disentangled: Option<DisentangledConfig>,
}

impl ModelConfig {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`SourceError`], with the field.
    pub(super) fn read(path: &Path) -> Result<Self, SourceError> {
        let fields = Fields::read(path)?;
        let model_type = fields
            .text("model_type")?
            .ok_or_else(|| fields.wrong("model_type", &"missing", "it must name the architecture"))?;
        let architecture = architecture::find(model_type)
            .ok_or_else(|| SourceError::Architecture { path: path.to_owned(), model_type: model_type.to_owned() })?;
        let settings = &architecture.settings;
        fields.reject_all(settings.unsupported)?;
        fields.check_position_type()?;
        let hidden_size = fields.size(settings.hidden_size)?;
        let heads = heads(&fields, architecture, hidden_size)?;
        let disentangled = disentangled::read(&fields, architecture)?;
        let config = Self {
            architecture,
            hidden_size,
            heads,
            squared_divisor: match settings.squared_divisor {
                Some(setting) => fields.size(setting)?,
                None => heads.size * disentangled.as_ref().map_or(1, DisentangledConfig::terms),
            },
            intermediate_size: fields.size(settings.intermediate_size)?,
            activation: fields.activation(settings.activation)?,
            vocab_size: fields.size(("vocab_size", settings.vocab_size))?,
            positions: fields.size(("max_position_embeddings", settings.positions))?,
            has_position_table: match architecture.parts.positions {
                Positions::Table(_) | Positions::TableAndBias(..) => true,
                Positions::Rotary(_) => false,
                Positions::Disentangled => fields.switch("position_biased_input", true)?,
            },
            token_types: match settings.token_types {
                None => 0,
                Some(default) => fields.whole("type_vocab_size", default)?,
            },
            embedding_size: match settings.embedding_size {
                None => hidden_size,
                Some(default) => fields.size(("embedding_size", default))?,
            },
            epsilon: fields.epsilon(settings.epsilon)?,
            padding: padding(&fields, architecture)?,
            layers: layers::read(&fields, architecture)?,
            disentangled,
        };
        config.check(&fields)?;
        Ok(config)
    }

    /// The maximum number of tokens of a text, including special tokens.
    pub(crate) fn position_limit(&self) -> usize {
        self.positions - self.padding.map_or(0, |padding| padding + 1)
    }

    fn check(&self, fields: &Fields<'_>) -> Result<(), SourceError> {
        if self.layers.iter().any(|layer| layer.theta.is_some()) && self.heads.size % 2 == 1 {
            let field = self.architecture.settings.head_size.map_or("num_attention_heads", |(field, _)| field);
            return Err(fields.wrong(field, &self.heads.size, "rotary positions need heads with an even size"));
        }
        match self.padding {
            Some(padding) if padding + 1 >= self.positions => {
                let expected = format!("max_position_embeddings ({}) leaves no positions after it", self.positions);
                Err(fields.wrong("pad_token_id", &padding, &expected))
            }
            _ => Ok(()),
        }
    }
}

fn heads(fields: &Fields<'_>, architecture: &Architecture, hidden_size: usize) -> Result<Heads, SourceError> {
    let settings = &architecture.settings;
    let query = fields.size(settings.heads)?;
    let key = settings.key_value_heads.map_or(Ok(query), |setting| fields.size(setting))?;
    if let Some((field, _)) = settings.key_value_heads.filter(|_| !query.is_multiple_of(key)) {
        let expected = format!("{} ({query}) must be a multiple of it", settings.heads.0);
        return Err(fields.wrong(field, &key, &expected));
    }
    let size = match settings.head_size {
        Some((field, default)) if fields.has(field) || default.is_some() => {
            fields.size((field, default.unwrap_or_default()))?
        }
        _ if hidden_size.is_multiple_of(query) => hidden_size / query,
        _ => {
            let expected = format!("it must be a multiple of {} ({query})", settings.heads.0);
            return Err(fields.wrong(settings.hidden_size.0, &hidden_size, &expected));
        }
    };
    Ok(Heads { query, key, size })
}

fn padding(fields: &Fields<'_>, architecture: &Architecture) -> Result<Option<usize>, SourceError> {
    match architecture.parts.positions {
        Positions::Table(first) | Positions::TableAndBias(first, _) => match first {
            FirstPosition::Zero => Ok(None),
            FirstPosition::AfterPadding { padding, configurable: false } => Ok(Some(padding)),
            FirstPosition::AfterPadding { padding, configurable: true } => {
                fields.whole("pad_token_id", padding).map(Some)
            }
        },
        Positions::Rotary(_) | Positions::Disentangled => Ok(None),
    }
}

#[cfg(test)]
mod tests;
