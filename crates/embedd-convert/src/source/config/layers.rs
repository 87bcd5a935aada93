//! What differs between layers: how far their queries attend, and by what their queries and keys are rotated.

use super::fields::Fields;
use crate::architecture::{Architecture, Direction, Positions, Theta, Windows};
use crate::source::SourceError;
use embedd_kernels::Reach;

/// The maximum number of layers, far beyond those of encoders.
const MAX_LAYERS: usize = 1024;

const GLOBAL: &str = "full_attention";
const LOCAL: &str = "sliding_attention";

/// The settings of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LayerConfig {
    pub(crate) reach: Reach,
    /// The base of the rotations' frequencies; `None` if there are no rotations.
    pub(crate) theta: Option<f32>,
}

/// The layers in order.
pub(super) fn read(fields: &Fields<'_>, architecture: &Architecture) -> Result<Vec<LayerConfig>, SourceError> {
    let name = architecture.settings.layers.0;
    let count = fields.size(architecture.settings.layers)?;
    if count > MAX_LAYERS {
        return Err(fields.wrong(name, &count, &format!("the maximum is {MAX_LAYERS}")));
    }
    let parts = &architecture.parts;
    let is_local = local_layers(fields, parts.windows, count)?;
    let causal = match parts.direction {
        Direction::Both => false,
        Direction::Causal => true,
        Direction::CausalUnless(setting) => !fields.switch(setting, false)?,
    };
    let window = window(fields, parts.windows, causal)?;
    let whole = if causal { Reach { back: None, ahead: Some(0) } } else { Reach::WHOLE_TEXT };
    let [global, local] = match parts.positions {
        Positions::Rotary(theta) => thetas(fields, theta)?.map(Some),
        _ => [None; 2],
    };
    let layer = |is_local| match (is_local, window) {
        (true, Some(reach)) => LayerConfig { reach, theta: local },
        _ => LayerConfig { reach: whole, theta: global },
    };
    Ok(is_local.into_iter().map(layer).collect())
}

/// Whether each layer attends only to nearby tokens.
fn local_layers(fields: &Fields<'_>, windows: Windows, count: usize) -> Result<Vec<bool>, SourceError> {
    if windows != Windows::None && fields.has("layer_types") {
        return layer_types(fields, count);
    }
    let local: Box<dyn Fn(usize) -> bool> = match windows {
        Windows::None => Box::new(|_| false),
        Windows::AllBut { every, .. } => {
            let every = fields.size(every)?;
            Box::new(move |layer| !layer.is_multiple_of(every))
        }
        Windows::AllButLast { every, .. } => {
            let every = fields.size(every)?;
            Box::new(move |layer| !(layer + 1).is_multiple_of(every))
        }
        Windows::From { enabled, from, .. } => {
            let enabled = fields.switch(enabled, false)?;
            let from = fields.whole(from.0, from.1)?;
            Box::new(move |layer| enabled && layer >= from)
        }
    };
    Ok((0..count).map(local).collect())
}

fn layer_types(fields: &Fields<'_>, count: usize) -> Result<Vec<bool>, SourceError> {
    let name = "layer_types";
    let value = fields.get(name).cloned().unwrap_or_default();
    let expected = || format!("it must list `{GLOBAL}` or `{LOCAL}` for each of the {count} layers");
    let types = value.as_array().filter(|types| types.len() == count);
    let types = types.ok_or_else(|| fields.wrong(name, &value, &expected()))?;
    let is_local = |kind: &serde_json::Value| match kind.as_str() {
        Some(GLOBAL) => Ok(false),
        Some(LOCAL) => Ok(true),
        _ => Err(fields.wrong(name, kind, &expected())),
    };
    types.iter().map(is_local).collect()
}

/// How far queries attend in layers with windows; `None` if there are none.
fn window(fields: &Fields<'_>, windows: Windows, causal: bool) -> Result<Option<Reach>, SourceError> {
    let setting = match windows {
        Windows::None => return Ok(None),
        Windows::AllBut { window, .. } | Windows::AllButLast { window, .. } => window,
        Windows::From { enabled, window, .. } if fields.switch(enabled, false)? => window,
        Windows::From { .. } => return Ok(None),
    };
    let window = fields.size(setting)?;
    let half = window / 2;
    Ok(Some(if causal {
        Reach { back: Some(window - 1), ahead: Some(0) }
    } else {
        Reach { back: Some(half), ahead: Some(half) }
    }))
}

/// The bases for global and for local layers.
fn thetas(fields: &Fields<'_>, theta: Theta) -> Result<[f32; 2], SourceError> {
    if let Some(scaling) = fields.nested("rope_scaling")? {
        check_rope(&scaling)?;
    }
    let both = fields.nested("rope_parameters")?;
    [(theta.global, GLOBAL), (theta.local, LOCAL)]
        .map(|(setting, kind)| {
            let own = both.as_ref().map(|both| both.nested(kind)).transpose()?.flatten();
            let default = fields.theta(setting)?;
            match own.as_ref().or(both.as_ref()) {
                None => Ok(default),
                Some(rope) => {
                    check_rope(rope)?;
                    rope.theta(("rope_theta", default))
                }
            }
        })
        .into_iter()
        .collect::<Result<Vec<f32>, SourceError>>()
        .map(|thetas| [thetas[0], thetas[1]])
}

/// Rejects rotations that are scaled or partial.
fn check_rope(rope: &Fields<'_>) -> Result<(), SourceError> {
    for name in ["rope_type", "type"] {
        match rope.text(name)? {
            None | Some("default") => {}
            Some(other) => return Err(rope.unsupported(name, other, "`default` is".to_owned())),
        }
    }
    let name = "partial_rotary_factor";
    match rope.get(name).map(|value| (value, value.as_f64())) {
        None | Some((_, Some(1.0))) => Ok(()),
        Some((value, _)) => Err(rope.unsupported(name, &value.to_string(), "only 1 is".to_owned())),
    }
}
