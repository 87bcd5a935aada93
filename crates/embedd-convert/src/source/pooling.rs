//! Reads the pooling module's `config.json`, in the layout of any version of sentence-transformers.

use std::path::Path;

use serde::Deserialize;

use super::{SourceError, read_json};
use embedd_model::bundle::Pooling;

/// The supported modes and their switches before version 5.4.
const SWITCHES: [(&str, Pooling); 2] =
    [("pooling_mode_mean_tokens", Pooling::Mean), ("pooling_mode_cls_token", Pooling::Cls)];

#[derive(Deserialize)]
struct Config {
    embedding_dimension: Option<usize>,
    /// The name of `embedding_dimension` before version 5.4.
    word_embedding_dimension: Option<usize>,
    pooling_mode: Option<Modes>,
    /// Includes the `pooling_mode_*` switches of versions before 5.4.
    #[serde(flatten)]
    others: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "pooling_mode must be a name or a list of names")]
enum Modes {
    One(String),
    Several(Vec<String>),
}

/// A mode that the file selects.
struct Mode {
    /// Its name in the file.
    name: String,
    /// `None` if the mode is not supported.
    pooling: Option<Pooling>,
}

/// Reads the pooling of hidden states with `hidden_size` channels.
pub(super) fn read(path: &Path, hidden_size: usize) -> Result<Pooling, SourceError> {
    let config: Config = read_json(path)?;
    check_dimension(path, &config, hidden_size)?;
    let modes = modes(config);
    if let [Mode { pooling: Some(pooling), .. }] = modes.as_slice() {
        return Ok(*pooling);
    }
    let names: Vec<&str> = modes.iter().map(|mode| mode.name.as_str()).collect();
    Err(SourceError::Unsupported {
        path: path.to_owned(),
        what: if names.is_empty() { "an empty pooling_mode".to_owned() } else { names.join(" with ") },
        instead: format!("the supported modes are `{}` and `{}`, one at a time", Pooling::Mean, Pooling::Cls),
    })
}

fn check_dimension(path: &Path, config: &Config, hidden_size: usize) -> Result<(), SourceError> {
    let (field, dimension) = match (config.embedding_dimension, config.word_embedding_dimension) {
        (None, Some(dimension)) => ("word_embedding_dimension", Some(dimension)),
        (dimension, _) => ("embedding_dimension", dimension),
    };
    if dimension == Some(hidden_size) {
        return Ok(());
    }
    Err(SourceError::Value {
        path: path.to_owned(),
        field: field.to_owned(),
        value: dimension.map_or("missing".to_owned(), |dimension| dimension.to_string()),
        expected: format!("config.json has hidden_size {hidden_size}"),
    })
}

/// The selected modes; sentence-transformers concatenates their vectors. `pooling_mode` overrides the switches; without
/// either, the mode is the mean.
fn modes(config: Config) -> Vec<Mode> {
    let names = match config.pooling_mode {
        Some(Modes::One(name)) => vec![name],
        Some(Modes::Several(names)) => names,
        None => return switched_on(&config.others),
    };
    let supported = [Pooling::Mean, Pooling::Cls];
    names
        .into_iter()
        .map(|name| Mode {
            pooling: supported.into_iter().find(|pooling| pooling.name() == name),
            name: format!("pooling_mode `{name}`"),
        })
        .collect()
}

fn switched_on(fields: &serde_json::Map<String, serde_json::Value>) -> Vec<Mode> {
    let on = fields.iter().filter(|(name, value)| name.starts_with("pooling_mode_") && value.as_bool() == Some(true));
    let mut modes: Vec<Mode> = on
        .map(|(name, _)| Mode {
            pooling: SWITCHES.into_iter().find(|(switch, _)| switch == name).map(|(_, pooling)| pooling),
            name: name.clone(),
        })
        .collect();
    if modes.is_empty() {
        modes.push(Mode { name: "the default".to_owned(), pooling: Some(Pooling::Mean) });
    }
    modes
}
