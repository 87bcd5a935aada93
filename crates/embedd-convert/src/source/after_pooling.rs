//! Reads the configurations of the modules after the pooling.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::modules::config_file;
use super::{SourceError, read_json};
use embedd_kernels::Activation;

/// What a Dense module without the field has in sentence-transformers.
const DEFAULT_ACTIVATION: &str = "torch.nn.modules.activation.Tanh";
const SENTENCE_EMBEDDING: &str = "sentence_embedding";

/// The class names of activations in PyTorch.
const ACTIVATIONS: [(&str, Option<Activation>); 5] = [
    ("Identity", None),
    ("Tanh", Some(Activation::Tanh)),
    ("ReLU", Some(Activation::Relu)),
    ("GELU", Some(Activation::Gelu)),
    ("SiLU", Some(Activation::Silu)),
];

/// A module after the pooling.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModuleConfig {
    /// Its folder, relative to the model's.
    pub(crate) folder: PathBuf,
    /// Its configuration file, relative to the model's folder.
    pub(crate) file: String,
    pub(crate) kind: ModuleKind,
}

/// What a module does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ModuleKind {
    /// A linear layer, then an activation if there is one.
    Dense { inputs: usize, outputs: usize, bias: bool, activation: Option<Activation> },
    /// Layer normalization over the components.
    LayerNorm { channels: usize },
}

impl ModuleConfig {
    /// The number of components that it produces, if it changes.
    fn outputs(&self) -> Option<usize> {
        match self.kind {
            ModuleKind::Dense { outputs, .. } => Some(outputs),
            ModuleKind::LayerNorm { .. } => None,
        }
    }
}

/// The number of components after the modules, given that of the pooled vector.
pub(super) fn width(modules: &[ModuleConfig], pooled: usize) -> usize {
    modules.iter().rev().find_map(ModuleConfig::outputs).unwrap_or(pooled)
}

#[derive(Deserialize)]
struct Dense {
    in_features: usize,
    out_features: usize,
    bias: Option<bool>,
    activation_function: Option<String>,
    module_input_name: Option<String>,
    module_output_name: Option<String>,
    use_residual: Option<bool>,
}

#[derive(Deserialize)]
struct LayerNorm {
    dimension: usize,
}

/// Reads the modules with these classes and folders. The first one gets vectors of `width` components.
pub(super) fn read(
    folder: &Path,
    modules: &[(String, PathBuf)],
    mut width: usize,
) -> Result<Vec<ModuleConfig>, SourceError> {
    let read = |(class, module): &(String, PathBuf)| {
        let file = config_file(module);
        let path = folder.join(&file);
        let (kind, field, inputs, outputs) = match class.as_str() {
            "Dense" => dense(&path)?,
            _ => {
                let LayerNorm { dimension } = read_json(&path)?;
                (ModuleKind::LayerNorm { channels: dimension }, "dimension", dimension, dimension)
            }
        };
        if inputs != width {
            let expected = format!("its input has {width} components");
            return Err(value(&path, field, inputs, expected));
        }
        width = outputs;
        Ok(ModuleConfig { folder: module.clone(), file, kind })
    };
    modules.iter().map(read).collect()
}

fn dense(path: &Path) -> Result<(ModuleKind, &'static str, usize, usize), SourceError> {
    let dense: Dense = read_json(path)?;
    let unsupported = |what: String, instead: &str| SourceError::Unsupported {
        path: path.to_owned(),
        what,
        instead: instead.to_owned(),
    };
    for (field, name) in
        [("module_input_name", &dense.module_input_name), ("module_output_name", &dense.module_output_name)]
    {
        if let Some(name) = name.as_ref().filter(|name| *name != SENTENCE_EMBEDDING) {
            return Err(unsupported(format!("{field} `{name}`"), "`sentence_embedding` is"));
        }
    }
    if dense.use_residual == Some(true) {
        return Err(unsupported("use_residual".to_owned(), "embedd supports only models without it"));
    }
    let name = dense.activation_function.as_deref().unwrap_or(DEFAULT_ACTIVATION);
    let class = name.rsplit('.').next().unwrap_or(name);
    let Some((_, activation)) = ACTIVATIONS.iter().find(|(known, _)| *known == class) else {
        let names = ACTIVATIONS.map(|(name, _)| format!("`{name}`")).join(", ");
        return Err(unsupported(format!("activation_function `{name}`"), &format!("supported are {names}")));
    };
    let Dense { in_features: inputs, out_features: outputs, .. } = dense;
    if !(1..=1 << 16).contains(&outputs) {
        return Err(value(path, "out_features", outputs, "it must be from 1 to 65536".to_owned()));
    }
    let kind = ModuleKind::Dense { inputs, outputs, bias: dense.bias.unwrap_or(true), activation: *activation };
    Ok((kind, "in_features", inputs, outputs))
}

fn value(path: &Path, field: &str, value: usize, expected: String) -> SourceError {
    SourceError::Value { path: path.to_owned(), field: field.to_owned(), value: value.to_string(), expected }
}
