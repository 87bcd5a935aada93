//! Reads the pooling module's `config.json`, in the layout of any version of sentence-transformers.

use std::path::Path;

use serde::Deserialize;

use super::{SourceError, read_json};
use embedd_model::bundle::{Pooling, PoolingMode};

/// The switches of versions before 5.4, in the order in which they concatenate the vectors.
const SWITCHES: [(&str, PoolingMode); 6] = [
    ("pooling_mode_cls_token", PoolingMode::Cls),
    ("pooling_mode_max_tokens", PoolingMode::Max),
    ("pooling_mode_mean_tokens", PoolingMode::Mean),
    ("pooling_mode_mean_sqrt_len_tokens", PoolingMode::MeanSqrtLen),
    ("pooling_mode_weightedmean_tokens", PoolingMode::WeightedMean),
    ("pooling_mode_lasttoken", PoolingMode::LastToken),
];

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

/// Reads the pooling of hidden states with `hidden_size` channels.
pub(super) fn read(path: &Path, hidden_size: usize) -> Result<Pooling, SourceError> {
    let config: Config = read_json(path)?;
    check_dimension(path, &config, hidden_size)?;
    let unsupported = |what: String| {
        let names = PoolingMode::ALL.map(|mode| format!("`{}`", mode.name())).join(", ");
        SourceError::Unsupported { path: path.to_owned(), what, instead: format!("the supported modes are {names}") }
    };
    let modes = match modes(config) {
        Ok(modes) => modes,
        Err(unknown) => return Err(unsupported(unknown)),
    };
    let count = modes.len();
    Pooling::new(modes).ok_or_else(|| unsupported(format!("a pooling_mode with {count} names")))
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

/// The selected modes, in the order of their vectors; the first unknown one is an error. `pooling_mode` overrides the
/// switches; without either, the mode is the mean.
fn modes(config: Config) -> Result<Vec<PoolingMode>, String> {
    let names = match config.pooling_mode {
        Some(Modes::One(name)) => vec![name],
        Some(Modes::Several(names)) => names,
        None => return switched_on(&config.others),
    };
    names.into_iter().map(|name| PoolingMode::of(&name).ok_or_else(|| format!("pooling_mode `{name}`"))).collect()
}

fn switched_on(fields: &serde_json::Map<String, serde_json::Value>) -> Result<Vec<PoolingMode>, String> {
    let is_on = |name: &str| fields.get(name).and_then(serde_json::Value::as_bool) == Some(true);
    let known = |name: &str| SWITCHES.iter().any(|(switch, _)| *switch == name);
    let mut unknown = fields.keys().filter(|name| name.starts_with("pooling_mode_") && is_on(name) && !known(name));
    if let Some(unknown) = unknown.next() {
        return Err(unknown.clone());
    }
    let modes: Vec<_> = SWITCHES.into_iter().filter(|(name, _)| is_on(name)).map(|(_, mode)| mode).collect();
    Ok(if modes.is_empty() { vec![PoolingMode::Mean] } else { modes })
}
