//! Reads `config.json`: the settings that determine the encoder, with transformers' defaults.

use std::fmt::Display;
use std::path::Path;

use serde_json::{Map, Value};

use super::{SourceError, read_json};
use crate::architecture::{self, Architecture, FirstPosition};
use embedd_kernels::Activation;

/// The names of activations in transformers.
const ACTIVATIONS: [(&str, Activation); 8] = [
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("relu", Activation::Relu),
];

/// The settings of an encoder.
#[derive(Debug, Clone)]
pub(crate) struct ModelConfig {
    pub(crate) architecture: &'static Architecture,
    /// Channels of a token's hidden state.
    pub(crate) hidden_size: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    /// Channels between the two linear layers of a feed-forward network.
    pub(crate) intermediate_size: usize,
    pub(crate) activation: Activation,
    pub(crate) vocab_size: usize,
    /// Rows of the position table.
    pub(crate) positions: usize,
    /// Rows of the token type table.
    pub(crate) token_types: usize,
    /// Channels of an embedding.
    pub(crate) embedding_size: usize,
    pub(crate) layer_norm_eps: f32,
    /// The padding token's id, if the architecture's positions depend on it.
    pub(crate) padding: Option<usize>,
}

/// The fields of a file.
struct Fields<'a> {
    path: &'a Path,
    fields: Map<String, Value>,
}

impl ModelConfig {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`SourceError`], with the field.
    pub(super) fn read(path: &Path) -> Result<Self, SourceError> {
        let fields = Fields { path, fields: read_json(path)? };
        let model_type = fields
            .text("model_type")?
            .ok_or_else(|| fields.wrong("model_type", &"missing", "it must name the architecture"))?;
        let architecture = architecture::find(model_type)
            .ok_or_else(|| SourceError::Architecture { path: path.to_owned(), model_type: model_type.to_owned() })?;
        let settings = &architecture.settings;
        let size = |(name, default)| fields.size(name, default);
        let hidden_size = size(settings.hidden_size)?;
        let config = Self {
            architecture,
            hidden_size,
            layers: size(settings.layers)?,
            heads: size(settings.heads)?,
            intermediate_size: size(settings.intermediate_size)?,
            activation: fields.activation(settings.activation)?,
            vocab_size: size(("vocab_size", settings.vocab_size))?,
            positions: size(("max_position_embeddings", 512))?,
            token_types: match settings.token_types {
                0 => 0,
                default => size(("type_vocab_size", default))?,
            },
            embedding_size: match settings.embedding_size {
                None => hidden_size,
                Some(default) => size(("embedding_size", default))?,
            },
            layer_norm_eps: fields.epsilon()?,
            padding: match architecture.positions {
                FirstPosition::Zero => None,
                FirstPosition::AfterPadding { padding, configurable: false } => Some(padding),
                FirstPosition::AfterPadding { padding, configurable: true } => {
                    Some(fields.whole("pad_token_id", padding)?)
                }
            },
        };
        fields.check_positions()?;
        config.check(&fields)?;
        Ok(config)
    }

    fn check(&self, fields: &Fields<'_>) -> Result<(), SourceError> {
        let settings = &self.architecture.settings;
        if !self.hidden_size.is_multiple_of(self.heads) {
            let heads = format!("it must be a multiple of {} ({})", settings.heads.0, self.heads);
            return Err(fields.wrong(settings.hidden_size.0, &self.hidden_size, &heads));
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

impl Fields<'_> {
    /// A field; `null` counts as missing.
    fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<&str>, SourceError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(name, &value, "it must be a string"))
    }

    /// A positive number.
    fn size(&self, name: &str, default: usize) -> Result<usize, SourceError> {
        match self.whole(name, default)? {
            0 => Err(self.wrong(name, &0, "it must be from 1 to 16777216")),
            size => Ok(size),
        }
    }

    fn whole(&self, name: &str, default: usize) -> Result<usize, SourceError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = value.as_u64().filter(|&number| number <= 1 << 24);
        number.map(|number| number as usize).ok_or_else(|| self.wrong(name, &value, "it must be from 1 to 16777216"))
    }

    fn epsilon(&self) -> Result<f32, SourceError> {
        let name = "layer_norm_eps";
        let Some(value) = self.get(name) else { return Ok(1e-12) };
        match value.as_f64() {
            Some(epsilon) if epsilon > 0.0 && epsilon < 1.0 => Ok(epsilon as f32),
            _ => Err(self.wrong(name, &value, "it must be between 0 and 1")),
        }
    }

    fn activation(&self, name: &str) -> Result<Activation, SourceError> {
        let Some(found) = self.text(name)? else { return Ok(Activation::Gelu) };
        let known = ACTIVATIONS.iter().find(|(known, _)| *known == found);
        known.map(|(_, activation)| *activation).ok_or_else(|| {
            let names = ACTIVATIONS.map(|(name, _)| format!("`{name}`")).join(", ");
            self.unsupported(name, found, format!("supported are {names}"))
        })
    }

    /// Rejects position embeddings that are added to the scores.
    fn check_positions(&self) -> Result<(), SourceError> {
        let name = "position_embedding_type";
        match self.text(name)? {
            None | Some("absolute") => Ok(()),
            Some(other) => Err(self.unsupported(name, other, "`absolute` is".to_owned())),
        }
    }

    fn wrong(&self, field: &str, value: &dyn Display, expected: &str) -> SourceError {
        SourceError::Value {
            path: self.path.to_owned(),
            field: field.to_owned(),
            value: value.to_string(),
            expected: expected.to_owned(),
        }
    }

    fn unsupported(&self, field: &str, value: &str, instead: String) -> SourceError {
        SourceError::Unsupported { path: self.path.to_owned(), what: format!("{field} `{value}`"), instead }
    }
}
