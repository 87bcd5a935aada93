//! Checks what the shapes of the tensors do not: a plan is as untrusted as any other file.

use std::ops::RangeInclusive;

use super::super::plan::{DistancesPlan, LayerPlan, LinearPlan, ModulePlan, Plan};
use super::EncoderError;

/// Sizes that a plan may have. Products of two of them do not overflow.
const SIZES: RangeInclusive<usize> = 1..=1 << 24;

pub(super) fn check(plan: &Plan) -> Result<(), EncoderError> {
    check_sizes(plan)?;
    check_distances(plan)?;
    let mut linears = projection(plan)?;
    plan.layers.iter().for_each(|layer| linears.extend(of_layer(plan, layer)));
    let mut width = plan.pooling.modes().len() * plan.hidden;
    for module in &plan.modules {
        if let ModulePlan::Dense { linear, .. } = module {
            linears.push(("a module", *linear, width, None));
            width = linear.outputs;
        }
    }
    for (name, linear, inputs, outputs) in linears {
        let fits = linear.inputs == inputs && outputs.is_none_or(|outputs| linear.outputs == outputs);
        let sizes = [linear.inputs, linear.outputs, linear.group].iter().all(|size| SIZES.contains(size));
        if !fits || !sizes || linear.split > linear.inputs {
            return Err(failed(format!("{name} is {linear:?}, but its input has {inputs} channels")));
        }
    }
    Ok(())
}

/// A linear layer's name, plan, inputs, and outputs if they are known.
type Expected = (&'static str, LinearPlan, usize, Option<usize>);

fn check_sizes(plan: &Plan) -> Result<(), EncoderError> {
    let Plan { hidden, heads, embeddings, .. } = plan;
    let sizes = [*hidden, embeddings.width, embeddings.word_group, heads.query, heads.key, heads.size];
    if let Some(size) = sizes.into_iter().find(|size| !SIZES.contains(size)) {
        return Err(failed(format!("a size of {size} is outside the range of 1 to {}", SIZES.end())));
    }
    if !heads.query.is_multiple_of(heads.key) {
        return Err(failed(format!("{} heads of queries cannot share {} heads of keys", heads.query, heads.key)));
    }
    for theta in plan.layers.iter().filter_map(|layer| layer.theta) {
        if !(theta >= 1.0 && theta.is_finite()) || heads.size % 2 == 1 {
            return Err(failed(format!("heads of {} channels cannot be rotated with theta {theta}", heads.size)));
        }
    }
    Ok(())
}

fn check_distances(plan: &Plan) -> Result<(), EncoderError> {
    match &plan.distances {
        DistancesPlan::None => Ok(()),
        DistancesPlan::Bias { farthest } if SIZES.contains(&(farthest + 1)) => Ok(()),
        DistancesPlan::Bias { farthest } => Err(failed(format!("a distance of {farthest} is too large"))),
        DistancesPlan::Disentangled { embeddings, by_distance, .. } => {
            let is_valid = by_distance.len() % 2 == 1
                && SIZES.contains(embeddings)
                && by_distance.iter().all(|&embedding| (embedding as usize) < *embeddings)
                && plan.heads.query == plan.heads.key;
            if is_valid { Ok(()) } else { Err(failed("the embeddings of distances do not match".to_owned())) }
        }
    }
}

fn projection(plan: &Plan) -> Result<Vec<Expected>, EncoderError> {
    let Plan { hidden, embeddings, .. } = plan;
    match embeddings.projection {
        Some(projection) => Ok(vec![("the projection", projection, embeddings.width, Some(*hidden))]),
        None if embeddings.width == *hidden => Ok(vec![]),
        None => Err(failed(format!("embeddings of {} channels need a projection to {hidden}", embeddings.width))),
    }
}

fn of_layer(plan: &Plan, layer: &LayerPlan) -> [Expected; 4] {
    let inner = layer.output.inputs;
    let intermediate = if plan.gated { inner.saturating_mul(2) } else { inner };
    [
        ("qkv", layer.qkv, plan.hidden, Some(plan.heads.row())),
        ("attention_output", layer.attention_output, plan.heads.output(), Some(plan.hidden)),
        ("intermediate", layer.intermediate, plan.hidden, Some(intermediate)),
        ("output", layer.output, inner, Some(plan.hidden)),
    ]
}

fn failed(reason: String) -> EncoderError {
    EncoderError::Plan(reason)
}
