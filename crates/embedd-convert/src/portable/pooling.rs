//! The pooling modes, with standard operators.

use crate::onnx::{Attribute, GraphBuilder, Value};
use embedd_model::bundle::PoolingMode;

/// Subtracted from the hidden states of padding before the maximum.
const FAR_BELOW: f32 = 1e9;

/// One vector per text, not normalized: `[batch, hidden]`. `states` is `[batch, sequence, hidden]`; `mask`, which is 1
/// for tokens, and `pooled`, which is 1 for tokens that are pooled, are int64 `[batch, sequence]`.
pub(super) fn pool(
    graph: &mut GraphBuilder<'_>,
    mode: PoolingMode,
    states: &Value,
    mask: &Value,
    pooled: &Value,
) -> Value {
    let name = format!("pooled/{}", mode.name());
    let axis = graph.integers(&[1], &[1]);
    match mode {
        PoolingMode::Cls => {
            let first = graph.integers(&[0], &[]);
            graph.node(&name, "Gather", &[states, &first], &[Attribute::Int("axis", 1)])
        }
        PoolingMode::Mean => {
            let mask = graph.cast_to_floats(&format!("{name}/mask"), pooled);
            weighted_mean(graph, &name, states, &mask)
        }
        PoolingMode::WeightedMean => {
            // The n-th token has weight n. Padding comes last, so the running count numbers the tokens.
            let number = graph.node(&format!("{name}/number"), "CumSum", &[mask, &axis], &[]);
            let number = graph.node(&format!("{name}/weight/integer"), "Mul", &[&number, pooled], &[]);
            let weight = graph.cast_to_floats(&format!("{name}/weight"), &number);
            weighted_mean(graph, &name, states, &weight)
        }
        PoolingMode::MeanSqrtLen => {
            let mask = graph.cast_to_floats(&format!("{name}/mask"), pooled);
            let sum = weighted_sum(graph, &name, states, &mask);
            let count = count(graph, &name, &mask);
            let root = graph.node(&format!("{name}/root"), "Sqrt", &[&count], &[]);
            graph.node(&name, "Div", &[&sum, &root], &[])
        }
        PoolingMode::Max => {
            let mask = graph.cast_to_floats(&format!("{name}/mask"), pooled);
            let one = graph.float(1.0);
            let far_below = graph.float(FAR_BELOW);
            let last = graph.integers(&[2], &[1]);
            let padding = graph.node(&format!("{name}/padding"), "Sub", &[&one, &mask], &[]);
            let padding = graph.node(&format!("{name}/lowered"), "Mul", &[&padding, &far_below], &[]);
            let padding = graph.node(&format!("{name}/column"), "Unsqueeze", &[&padding, &last], &[]);
            let states = graph.node(&format!("{name}/states"), "Sub", &[states, &padding], &[]);
            let attributes = [Attribute::Ints("axes", &[1]), Attribute::Int("keepdims", 0)];
            graph.node(&name, "ReduceMax", &[&states], &attributes)
        }
        PoolingMode::LastToken => {
            let count =
                graph.node(&format!("{name}/tokens"), "ReduceSum", &[mask, &axis], &[Attribute::Int("keepdims", 1)]);
            let one = graph.integers(&[1], &[]);
            let last = graph.node(&format!("{name}/index"), "Sub", &[&count, &one], &[]);
            graph.node(&name, "GatherND", &[states, &last], &[Attribute::Int("batch_dims", 1)])
        }
    }
}

/// `weights` is float32 `[batch, sequence]`, 0 for padding.
fn weighted_mean(graph: &mut GraphBuilder<'_>, name: &str, states: &Value, weights: &Value) -> Value {
    let sum = weighted_sum(graph, name, states, weights);
    let count = count(graph, name, weights);
    graph.node(name, "Div", &[&sum, &count], &[])
}

/// `[batch, hidden]`
fn weighted_sum(graph: &mut GraphBuilder<'_>, name: &str, states: &Value, weights: &Value) -> Value {
    let axis = graph.integers(&[1], &[1]);
    let row = graph.node(&format!("{name}/row"), "Unsqueeze", &[weights, &axis], &[]);
    let sum = graph.node(&format!("{name}/sum/row"), "MatMul", &[&row, states], &[]);
    graph.node(&format!("{name}/sum"), "Squeeze", &[&sum, &axis], &[])
}

/// The sum of the weights, at least 1: `[batch, 1]`.
fn count(graph: &mut GraphBuilder<'_>, name: &str, weights: &Value) -> Value {
    let axis = graph.integers(&[1], &[1]);
    let one = graph.float(1.0);
    let sum = graph.node(&format!("{name}/total"), "ReduceSum", &[weights, &axis], &[Attribute::Int("keepdims", 1)]);
    graph.node(&format!("{name}/count"), "Max", &[&sum, &one], &[])
}
