//! The fields of `config.json`, with errors that name them.

use std::fmt::Display;
use std::path::Path;

use serde_json::{Map, Value};

use crate::source::{SourceError, read_json};
use embedd_kernels::Activation;

/// The names of activations in transformers.
const ACTIVATIONS: [(&str, Activation); 11] = [
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("tanh", Activation::Tanh),
];

/// The fields of a file.
pub(super) struct Fields<'a> {
    path: &'a Path,
    fields: Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn read(path: &'a Path) -> Result<Self, SourceError> {
        Ok(Self { path, fields: read_json(path)? })
    }

    /// The fields of an object in this file.
    pub(super) fn nested(&self, name: &str) -> Result<Option<Fields<'a>>, SourceError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let fields = value.as_object().ok_or_else(|| self.wrong(name, &value, "it must be an object"))?;
        Ok(Some(Fields { path: self.path, fields: fields.clone() }))
    }

    /// A field; `null` counts as missing.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, SourceError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(name, &value, "it must be a string"))
    }

    pub(super) fn switch(&self, name: &str, default: bool) -> Result<bool, SourceError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.wrong(name, &value, "it must be true or false"))
    }

    /// A positive number.
    pub(super) fn size(&self, (name, default): (&str, usize)) -> Result<usize, SourceError> {
        match self.whole(name, default)? {
            0 => Err(self.wrong(name, &0, "it must be from 1 to 16777216")),
            size => Ok(size),
        }
    }

    pub(super) fn whole(&self, name: &str, default: usize) -> Result<usize, SourceError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let number = value.as_u64().filter(|&number| number <= 1 << 24);
        number.map(|number| number as usize).ok_or_else(|| self.wrong(name, &value, "it must be from 1 to 16777216"))
    }

    /// A number of at least 1.
    pub(super) fn theta(&self, (name, default): (&str, f32)) -> Result<f32, SourceError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        match value.as_f64() {
            Some(theta) if (1.0..1e30).contains(&theta) => Ok(theta as f32),
            _ => Err(self.wrong(name, &value, "it must be at least 1")),
        }
    }

    pub(super) fn epsilon(&self, (name, default): (&str, f32)) -> Result<f32, SourceError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        match value.as_f64() {
            Some(epsilon) if epsilon > 0.0 && epsilon < 1.0 => Ok(epsilon as f32),
            _ => Err(self.wrong(name, &value, "it must be between 0 and 1")),
        }
    }

    pub(super) fn activation(&self, (name, default): (&str, Activation)) -> Result<Activation, SourceError> {
        let Some(found) = self.text(name)? else { return Ok(default) };
        let known = ACTIVATIONS.iter().find(|(known, _)| *known == found);
        known.map(|(_, activation)| *activation).ok_or_else(|| {
            let names = ACTIVATIONS.map(|(name, _)| format!("`{name}`")).join(", ");
            self.unsupported(name, found, format!("supported are {names}"))
        })
    }

    /// Rejects fields unless they are missing, `null`, `false` or 0.
    pub(super) fn reject_all(&self, names: &[&str]) -> Result<(), SourceError> {
        let set = |name: &&&str| self.get(name).is_some_and(|value| *value != false && *value != 0);
        match names.iter().find(set) {
            None => Ok(()),
            Some(name) => {
                let value = self.get(name).map(Value::to_string).unwrap_or_default();
                Err(self.unsupported(name, &value, "embedd supports only models without it".to_owned()))
            }
        }
    }

    /// Rejects position embeddings that are added to the scores.
    pub(super) fn check_position_type(&self) -> Result<(), SourceError> {
        let name = "position_embedding_type";
        match self.text(name)? {
            None | Some("absolute") => Ok(()),
            Some(other) => Err(self.unsupported(name, other, "`absolute` is".to_owned())),
        }
    }

    pub(super) fn wrong(&self, field: &str, value: &dyn Display, expected: &str) -> SourceError {
        SourceError::Value {
            path: self.path.to_owned(),
            field: field.to_owned(),
            value: value.to_string(),
            expected: expected.to_owned(),
        }
    }

    pub(super) fn unsupported(&self, field: &str, value: &str, instead: String) -> SourceError {
        SourceError::Unsupported { path: self.path.to_owned(), what: format!("{field} `{value}`"), instead }
    }
}
