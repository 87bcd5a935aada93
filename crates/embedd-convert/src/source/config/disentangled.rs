//! The settings of disentangled attention (DeBERTa).

use serde::Serialize;

use super::fields::Fields;
use crate::architecture::{Architecture, Positions};
use crate::source::SourceError;

/// How scores depend on embeddings of distances (He, Liu, Gao and Chen 2020).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DisentangledConfig {
    /// Distances from `-span` to `span - 1` have an embedding.
    pub span: usize,
    /// Distances from half of `span` on share embeddings logarithmically up to this one; `None`: they do not.
    pub logarithmic_to: Option<usize>,
    /// Whether queries are multiplied by embeddings of distances.
    pub content_to_position: bool,
    /// Whether keys are multiplied by embeddings of distances.
    pub position_to_content: bool,
    /// Whether embeddings of distances become keys and queries by the weights for tokens.
    pub shared_weights: bool,
    /// Whether embeddings of distances are normalized.
    pub normalized: bool,
}

impl DisentangledConfig {
    /// The number of terms of a score.
    pub(crate) fn terms(&self) -> usize {
        1 + usize::from(self.content_to_position) + usize::from(self.position_to_content)
    }
}

/// `None` if the architecture, or this model, has no such attention.
pub(super) fn read(
    fields: &Fields<'_>,
    architecture: &Architecture,
) -> Result<Option<DisentangledConfig>, SourceError> {
    if architecture.parts.positions != Positions::Disentangled || !fields.switch("relative_attention", false)? {
        return Ok(None);
    }
    let types = types(fields)?;
    let positions = fields.size(("max_position_embeddings", architecture.settings.positions))?;
    // -1 and a missing number mean the default.
    let positive = |name: &str| fields.get(name).and_then(serde_json::Value::as_i64).filter(|&number| number > 0);
    let farthest = match positive("max_relative_positions") {
        Some(_) => fields.size(("max_relative_positions", positions))?,
        None => positions,
    };
    let buckets = match positive("position_buckets") {
        Some(_) => Some(fields.size(("position_buckets", 1))?),
        None => None,
    };
    if let Some(buckets) = buckets.filter(|buckets| buckets / 2 == 0 || farthest <= buckets / 2 + 1) {
        let expected = format!("it must be from 2 to less than twice the number of relative positions ({farthest})");
        return Err(fields.wrong("position_buckets", &buckets, &expected));
    }
    Ok(Some(DisentangledConfig {
        span: buckets.unwrap_or(farthest),
        logarithmic_to: buckets.map(|_| farthest),
        content_to_position: types.iter().any(|kind| kind == "c2p"),
        position_to_content: types.iter().any(|kind| kind == "p2c"),
        shared_weights: fields.switch("share_att_key", false)?,
        normalized: fields.text("norm_rel_ebd")?.unwrap_or("none").to_lowercase().contains("layer_norm"),
    }))
}

/// The kinds of terms: a list, or names joined by `|`.
fn types(fields: &Fields<'_>) -> Result<Vec<String>, SourceError> {
    let name = "pos_att_type";
    let Some(value) = fields.get(name) else { return Ok(Vec::new()) };
    let expected = "it must be a list of `c2p` and `p2c`";
    let names: Vec<String> = match (value.as_str(), value.as_array()) {
        (Some(text), _) => text.to_lowercase().split('|').map(|name| name.trim().to_owned()).collect(),
        (_, Some(list)) => list.iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect(),
        _ => return Err(fields.wrong(name, &value, expected)),
    };
    match names.iter().find(|name| !["c2p", "p2c", ""].contains(&name.as_str())) {
        Some(_) => Err(fields.wrong(name, &value, expected)),
        None => Ok(names),
    }
}
