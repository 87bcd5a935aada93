//! What the attention of all layers shares.

use super::LongAttention;
use crate::encoder::{Distances, Encoder};
use crate::onnx::{Attribute, Floats, GraphBuilder, Value};
use crate::onnx_proto::tensor_proto::DataType;
use embedd_kernels::{Reach, Rotations};

/// Added to the scores of keys out of reach. float16 can represent it, and its sum with any score.
const FAR_BELOW: f32 = -3e4;

/// Values that all layers share.
pub(super) struct Attention {
    /// int32 `[batch, sequence]`, 1 for tokens, 0 for padding.
    pub(super) padding: Value,
    pub(super) by_distance: ByDistance,
    /// For all pairs of a query and a key. Long texts do not use it.
    pub(super) pairs: Pairs,
    /// Cosines and sines, `[sequence, head_size / 2]`, for each base of the frequencies.
    pub(super) rotations: Vec<(f32, [Value; 2])>,
    /// The number of tokens of a padded text, int64 `[1]`.
    pub(super) sequence: Value,
    /// `None` if the model does not accept long texts.
    pub(super) long: Option<LongTexts>,
}

/// How attention to long texts is computed, a block of queries at a time.
pub(super) struct LongTexts {
    /// bool `[1]`
    pub(super) is_long: Value,
    /// Queries per block.
    pub(super) block: usize,
}

/// What depends on the distance from a query to a key.
pub(super) enum ByDistance {
    Nothing,
    /// A bias of each head, float32 `[heads, 2 * farthest + 1]`.
    Bias(Value),
    /// The row of the embeddings of distances, int64 `[2 * farthest + 1]`.
    Row(Value),
}

/// What depends on the positions of queries and keys, for each pair.
#[derive(Default)]
pub(super) struct Pairs {
    /// float32 `[1, heads, queries, keys]`.
    pub(super) bias: Option<Value>,
    /// float32 `[1, 1, queries, keys]` for each reach that is not the whole text: 0 for keys within reach.
    masks: Vec<(Reach, Value)>,
    /// int64 `[queries, keys]`: the row of the embeddings of distances for each query and key.
    pub(super) rows: Option<Value>,
}

impl Attention {
    /// `sequence` is the number of tokens of a padded text, int64 `[1]`.
    pub(super) fn new<'w>(
        graph: &mut GraphBuilder<'w>,
        encoder: &'w Encoder<'w>,
        sequence: Value,
        mask: &Value,
        plan: LongAttention,
    ) -> Self {
        let padding = graph.node("padding_mask", "Cast", &[mask], &[Attribute::Int("to", DataType::Int32 as i64)]);
        let long = LongTexts::new(graph, encoder, &sequence, plan);
        let reaches: Vec<Reach> = encoder.layers.iter().map(|layer| layer.reach).collect();
        let (by_distance, pairs) = if depend_on_distance(encoder, &reaches) {
            // All pairs of a long text would need too much memory.
            let tokens = match &long {
                Some(long) => {
                    let one = graph.integers(&[1], &[1]);
                    graph.node("short_sequence_length", "Where", &[&long.is_long, &one, &sequence], &[])
                }
                None => sequence.clone(),
            };
            let position = counting(graph, "position", &tokens);
            let distance = distances(graph, "", &position, &position);
            let by_distance = ByDistance::new(graph, encoder);
            let pairs = Pairs::new(graph, "", encoder, &by_distance, &distance, &reaches);
            (by_distance, pairs)
        } else {
            (ByDistance::Nothing, Pairs::default())
        };
        let mut attention = Self { padding, by_distance, pairs, rotations: Vec::new(), sequence, long };
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

impl LongTexts {
    fn new(graph: &mut GraphBuilder<'_>, encoder: &Encoder<'_>, sequence: &Value, plan: LongAttention) -> Option<Self> {
        if encoder.position_limit <= plan.over {
            return None;
        }
        let longest_short = graph.integers(&[plan.over as i64], &[1]);
        let is_long = graph.node("is_long", "Greater", &[sequence, &longest_short], &[]);
        Some(Self { is_long, block: plan.block })
    }
}

impl ByDistance {
    fn new<'w>(graph: &mut GraphBuilder<'w>, encoder: &'w Encoder<'w>) -> Self {
        let farthest = encoder.farthest();
        match &encoder.distances {
            Distances::None => Self::Nothing,
            Distances::Bias(relative) => {
                let shape = [encoder.heads.query, 2 * farthest + 1];
                Self::Bias(graph.weight("relative_attention_bias", &shape, move || relative.by_distance(farthest)))
            }
            Distances::Disentangled(disentangled) => {
                let rows = disentangled.row_by_distance(farthest);
                let rows: Vec<i64> = rows.into_iter().map(i64::from).collect();
                Self::Row(graph.integers(&rows, &[rows.len()]))
            }
        }
    }
}

impl Pairs {
    /// `distance` is int64 `[queries, keys]`; see [`distances`]. The names of the nodes start with `prefix`.
    pub(super) fn new(
        graph: &mut GraphBuilder<'_>,
        prefix: &str,
        encoder: &Encoder<'_>,
        by_distance: &ByDistance,
        distance: &Value,
        reaches: &[Reach],
    ) -> Self {
        let farthest = encoder.farthest();
        let mut pairs = Self::default();
        match by_distance {
            ByDistance::Nothing => {}
            ByDistance::Bias(table) => pairs.bias = Some(relative_bias(graph, prefix, table, farthest, distance)),
            ByDistance::Row(table) => pairs.rows = Some(distance_rows(graph, prefix, table, farthest, distance)),
        }
        for &reach in reaches.iter().filter(|reach| **reach != Reach::WHOLE_TEXT) {
            if pairs.mask(reach).is_none() {
                let name = format!("{prefix}reach.{}", pairs.masks.len());
                let mask = reach_mask(graph, &name, reach, farthest, distance);
                pairs.masks.push((reach, mask));
            }
        }
        pairs
    }

    /// What is added to the scores so that queries attend to keys within `reach` only.
    pub(super) fn mask(&self, reach: Reach) -> Option<&Value> {
        self.masks.iter().find(|(known, _)| *known == reach).map(|(_, mask)| mask)
    }
}

/// Whether the scores depend on distances, apart from rotations.
pub(super) fn depend_on_distance(encoder: &Encoder<'_>, reaches: &[Reach]) -> bool {
    !matches!(encoder.distances, Distances::None) || reaches.iter().any(|reach| *reach != Reach::WHOLE_TEXT)
}

/// int64 `[queries, keys]`: the key's position minus the query's.
pub(super) fn distances(graph: &mut GraphBuilder<'_>, prefix: &str, queries: &Value, keys: &Value) -> Value {
    let first = graph.integers(&[0], &[1]);
    let second = graph.integers(&[1], &[1]);
    let keys = graph.node(&format!("{prefix}key_position"), "Unsqueeze", &[keys, &first], &[]);
    let queries = graph.node(&format!("{prefix}query_position"), "Unsqueeze", &[queries, &second], &[]);
    graph.node(&format!("{prefix}distance"), "Sub", &[&keys, &queries], &[])
}

/// int64 `[sequence]`: 0, 1, 2 ...
pub(super) fn counting(graph: &mut GraphBuilder<'_>, name: &str, sequence: &Value) -> Value {
    let zero = graph.integers(&[0], &[]);
    let one = graph.integers(&[1], &[]);
    let end = graph.node(&format!("{name}/end"), "Squeeze", &[sequence], &[]);
    graph.node(name, "Range", &[&zero, &end, &one], &[])
}

/// The bias of each head for every pair of query and key: `[1, heads, queries, keys]`.
fn relative_bias(
    graph: &mut GraphBuilder<'_>,
    prefix: &str,
    table: &Value,
    farthest: usize,
    distance: &Value,
) -> Value {
    let first = graph.integers(&[0], &[1]);
    let shift = graph.integers(&[farthest as i64], &[]);
    let column = graph.node(&format!("{prefix}distance_column"), "Add", &[distance, &shift], &[]);
    let axis = [Attribute::Int("axis", 1)];
    let bias = graph.node(&format!("{prefix}attention_bias/heads"), "Gather", &[table, &column], &axis);
    graph.node(&format!("{prefix}attention_bias"), "Unsqueeze", &[&bias, &first], &[])
}

/// The row of the embeddings of distances for every pair of query and key: int64 `[queries, keys]`.
fn distance_rows(
    graph: &mut GraphBuilder<'_>,
    prefix: &str,
    table: &Value,
    farthest: usize,
    distance: &Value,
) -> Value {
    let shift = graph.integers(&[farthest as i64], &[]);
    let column = graph.node(&format!("{prefix}distance_column"), "Add", &[distance, &shift], &[]);
    graph.node(&format!("{prefix}distance_row"), "Gather", &[table, &column], &[])
}

/// 0 for keys within reach, otherwise far below 0: float32 `[1, 1, queries, keys]`.
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

/// Cosines and sines of all positions: `[sequence, size / 2]` each. The angles are float32, because those of large
/// positions need its precision.
fn rotations(graph: &mut GraphBuilder<'_>, name: &str, theta: f32, size: usize, sequence: &Value) -> [Value; 2] {
    let frequencies = Rotations::new(theta, size).frequencies().to_vec();
    let position = counting(graph, &format!("{name}/position"), sequence);
    let floats = graph.set_floats(Floats::Float32);
    let position = graph.cast_to_floats(&format!("{name}/float"), &position);
    let axis = graph.integers(&[1], &[1]);
    let column = graph.node(&format!("{name}/column"), "Unsqueeze", &[&position, &axis], &[]);
    let shape = [1, size / 2];
    let frequencies = graph.weight(&format!("{name}/frequencies"), &shape, move || Ok(frequencies.clone()));
    let angles = graph.node(&format!("{name}/angles"), "Mul", &[&column, &frequencies], &[]);
    graph.set_floats(floats);
    ["Cos", "Sin"].map(|operator| {
        let value = graph.node(&format!("{name}/{operator}"), operator, &[&angles], &[]);
        graph.converted(&format!("{name}/{operator}/converted"), &value, Floats::Float32)
    })
}
