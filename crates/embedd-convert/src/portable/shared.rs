//! What the attention of all layers shares.

use crate::encoder::{DisentangledAttention, Distances, Encoder, RelativeAttention};
use crate::onnx::{Attribute, GraphBuilder, Value};
use crate::onnx_proto::tensor_proto::DataType;
use embedd_kernels::{Reach, Rotations};

/// Added to the scores of keys out of reach.
const FAR_BELOW: f32 = -1e9;

/// Values that all layers share.
pub(super) struct Attention {
    /// int32 `[batch, sequence]`, 1 for tokens, 0 for padding.
    pub(super) padding: Value,
    /// float32 `[1, heads, sequence, sequence]`.
    pub(super) bias: Option<Value>,
    /// float32 `[1, 1, sequence, sequence]` for each reach that is not the whole text: 0 for keys within reach.
    pub(super) masks: Vec<(Reach, Value)>,
    /// Cosines and sines, `[sequence, head_size / 2]`, for each base of the frequencies.
    pub(super) rotations: Vec<(f32, [Value; 2])>,
    /// int64 `[sequence, sequence]`: the row of the embeddings of distances for each query and key.
    pub(super) rows: Option<Value>,
    pub(super) sequence: Value,
}

impl Attention {
    /// `sequence` is the number of tokens of a padded text, int64 `[1]`.
    pub(super) fn new<'w>(
        graph: &mut GraphBuilder<'w>,
        encoder: &'w Encoder<'w>,
        sequence: Value,
        mask: &Value,
    ) -> Self {
        let padding = graph.node("padding_mask", "Cast", &[mask], &[Attribute::Int("to", DataType::Int32 as i64)]);
        let mut reaches: Vec<Reach> = encoder.layers.iter().map(|layer| layer.reach).collect();
        reaches.dedup();
        let mut attention =
            Self { padding, bias: None, masks: Vec::new(), rotations: Vec::new(), rows: None, sequence };
        let is_limited = |reach: &Reach| *reach != Reach::WHOLE_TEXT;
        if matches!(encoder.distances, Distances::None) && !reaches.iter().any(is_limited) {
            attention.add_rotations(graph, encoder);
            return attention;
        }
        let distance = distances(graph, &attention.sequence);
        match &encoder.distances {
            Distances::None => {}
            Distances::Bias(relative) => attention.bias = Some(relative_bias(graph, relative, encoder, &distance)),
            Distances::Disentangled(disentangled) => {
                attention.rows = Some(distance_rows(graph, disentangled, encoder, &distance));
            }
        }
        for reach in reaches.into_iter().filter(is_limited) {
            if !attention.masks.iter().any(|(known, _)| *known == reach) {
                let name = format!("reach.{}", attention.masks.len());
                let mask = reach_mask(graph, &name, reach, encoder.farthest(), &distance);
                attention.masks.push((reach, mask));
            }
        }
        attention.add_rotations(graph, encoder);
        attention
    }

    fn add_rotations(&mut self, graph: &mut GraphBuilder<'_>, encoder: &Encoder<'_>) {
        for theta in encoder.layers.iter().filter_map(|layer| layer.theta) {
            if !self.rotations.iter().any(|(known, _)| *known == theta) {
                let name = format!("rotations.{}", self.rotations.len());
                let both = rotations(graph, &name, theta, encoder.heads.size, &self.sequence);
                self.rotations.push((theta, both));
            }
        }
    }
}

/// int64 `[sequence, sequence]`: the key's position minus the query's.
fn distances(graph: &mut GraphBuilder<'_>, sequence: &Value) -> Value {
    let position = counting(graph, "position", sequence);
    let first = graph.integers(&[0], &[1]);
    let second = graph.integers(&[1], &[1]);
    let keys = graph.node("key_position", "Unsqueeze", &[&position, &first], &[]);
    let queries = graph.node("query_position", "Unsqueeze", &[&position, &second], &[]);
    graph.node("distance", "Sub", &[&keys, &queries], &[])
}

/// int64 `[sequence]`: 0, 1, 2 ...
fn counting(graph: &mut GraphBuilder<'_>, name: &str, sequence: &Value) -> Value {
    let zero = graph.integers(&[0], &[]);
    let one = graph.integers(&[1], &[]);
    let end = graph.node(&format!("{name}/end"), "Squeeze", &[sequence], &[]);
    graph.node(name, "Range", &[&zero, &end, &one], &[])
}

/// The bias of each head for every pair of query and key: `[1, heads, sequence, sequence]`.
fn relative_bias<'w>(
    graph: &mut GraphBuilder<'w>,
    relative: &'w RelativeAttention<'w>,
    encoder: &Encoder<'w>,
    distance: &Value,
) -> Value {
    let farthest = encoder.farthest();
    let shape = [encoder.heads.query, 2 * farthest + 1];
    let by_distance = graph.weight("relative_attention_bias", &shape, move || relative.by_distance(farthest));
    let first = graph.integers(&[0], &[1]);
    let shift = graph.integers(&[farthest as i64], &[]);
    let column = graph.node("distance_column", "Add", &[distance, &shift], &[]);
    let bias = graph.node("attention_bias/heads", "Gather", &[&by_distance, &column], &[Attribute::Int("axis", 1)]);
    graph.node("attention_bias", "Unsqueeze", &[&bias, &first], &[])
}

/// The row of the embeddings of distances for every pair of query and key: int64 `[sequence, sequence]`.
fn distance_rows(
    graph: &mut GraphBuilder<'_>,
    disentangled: &DisentangledAttention<'_>,
    encoder: &Encoder<'_>,
    distance: &Value,
) -> Value {
    let farthest = encoder.farthest();
    let rows: Vec<i64> = disentangled.row_by_distance(farthest).into_iter().map(i64::from).collect();
    let rows = graph.integers(&rows, &[rows.len()]);
    let shift = graph.integers(&[farthest as i64], &[]);
    let column = graph.node("distance_column", "Add", &[distance, &shift], &[]);
    graph.node("distance_row", "Gather", &[&rows, &column], &[])
}

/// 0 for keys within reach, otherwise far below 0: float32 `[1, 1, sequence, sequence]`.
fn reach_mask(graph: &mut GraphBuilder<'_>, name: &str, reach: Reach, farthest: usize, distance: &Value) -> Value {
    let [back, ahead] = [reach.back, reach.ahead].map(|tokens| tokens.unwrap_or(farthest).min(farthest) as i64);
    let smallest = graph.integers(&[-back], &[]);
    let largest = graph.integers(&[ahead], &[]);
    let too_early = graph.node(&format!("{name}/too_early"), "Less", &[distance, &smallest], &[]);
    let too_late = graph.node(&format!("{name}/too_late"), "Greater", &[distance, &largest], &[]);
    let hidden = graph.node(&format!("{name}/hidden"), "Or", &[&too_early, &too_late], &[]);
    let (far_below, zero) = (graph.float(FAR_BELOW), graph.float(0.0));
    let mask = graph.node(&format!("{name}/mask"), "Where", &[&hidden, &far_below, &zero], &[]);
    let axes = graph.integers(&[0, 1], &[2]);
    graph.node(name, "Unsqueeze", &[&mask, &axes], &[])
}

/// Cosines and sines of all positions: `[sequence, size / 2]` each.
fn rotations(graph: &mut GraphBuilder<'_>, name: &str, theta: f32, size: usize, sequence: &Value) -> [Value; 2] {
    let frequencies = Rotations::new(theta, size).frequencies().to_vec();
    let position = counting(graph, &format!("{name}/position"), sequence);
    let float = [Attribute::Int("to", DataType::Float as i64)];
    let position = graph.node(&format!("{name}/float"), "Cast", &[&position], &float);
    let axis = graph.integers(&[1], &[1]);
    let column = graph.node(&format!("{name}/column"), "Unsqueeze", &[&position, &axis], &[]);
    let shape = [1, size / 2];
    let frequencies = graph.weight(&format!("{name}/frequencies"), &shape, move || Ok(frequencies.clone()));
    let angles = graph.node(&format!("{name}/angles"), "Mul", &[&column, &frequencies], &[]);
    ["Cos", "Sin"].map(|operator| graph.node(&format!("{name}/{operator}"), operator, &[&angles], &[]))
}
