//! Lowers the encoder to embedd's own operator: a graph with one node, which has the plan of the encoder, and a second
//! file with the packed weights.
//!
//! The operator finds its tensors in the weights file by name ([`plan::tensor`]). Inside, the channels of the hidden
//! states are reordered (see [`order`]); the graph restores the order at the end.

use std::sync::Arc;

use safetensors::Dtype;

use super::encoder::{Encoder, LayerNorm, LinearInput};
use super::gptq::Rounded;
use super::onnx::{Attribute, Dim, GraphBuilder, Value};
use super::quantize;
use crate::onnx_proto::tensor_proto::DataType;
use embedd_model::bundle::graph_io;
use embedd_model::native::plan::{self, EmbeddingsPlan, LayerPlan, LinearPlan, Plan, tensor};

mod file;
mod order;
mod pack;
mod recipe;
mod rounding;

use file::{Part, TensorFile};
use order::{ChannelOrder, Orders};
use pack::pack;
pub(super) use recipe::NativeRecipe;
pub(super) use rounding::{RoundedLayers, round};

/// The recipe's name in the manifest.
pub(super) const RECIPE: &str = "int8-groups";
/// The type of most of its weights.
pub(super) const PRECISION: &str = "int8";

/// The contents of the native model's two files.
pub(super) struct NativeModel<'w> {
    /// Inputs `input_ids` `[tokens]` and `text_offsets` `[texts + 1]`, int64; output `pooled_embedding`, float32
    /// `[texts, width]`.
    pub(super) graph: GraphBuilder<'w>,
    /// The tensors that the operator uses.
    pub(super) weights: TensorFile<'w>,
}

/// Builds the native model from weights that [`round`] has rounded with the same recipe.
pub(super) fn lower<'w>(
    encoder: &'w Encoder<'w>,
    rounded: &'w RoundedLayers,
    recipe: &'w NativeRecipe,
) -> NativeModel<'w> {
    let mut packing = Packing { weights: TensorFile::default(), encoder, recipe, rounded, orders: &rounded.orders };
    let plan = packing.encoder();
    let Packing { weights, orders, .. } = packing;

    let mut graph = GraphBuilder::new(encoder.architecture);
    let ids = graph.input(graph_io::INPUT_IDS, DataType::Int64, &[Dim::Named("tokens")]);
    let offsets = graph.input(graph_io::TEXT_OFFSETS, DataType::Int64, &[Dim::Named("offsets")]);
    let plan = serde_json::to_string(&plan).expect("a plan has only numbers and names");
    let attributes = [Attribute::Text(plan::PLAN, &plan)];
    let pooled = graph.node_in(plan::DOMAIN, "encoder", plan::OPERATOR, &[&ids, &offsets], &attributes);
    let pooled = restore_channel_order(&mut graph, encoder, &orders.hidden(), pooled);
    let shape = [Dim::Named("texts"), Dim::Fixed(encoder.width())];
    graph.output(graph_io::POOLED_EMBEDDING, &pooled, DataType::Float, &shape);
    NativeModel { graph, weights }
}

fn restore_channel_order(
    graph: &mut GraphBuilder<'_>,
    encoder: &Encoder<'_>,
    order: &ChannelOrder,
    pooled: Value,
) -> Value {
    let Some(positions) = order.positions() else { return pooled };
    let of_mode = |mode: usize| positions.iter().map(move |position| (mode * encoder.hidden_size + position) as i64);
    let positions: Vec<i64> = (0..encoder.pooling.modes().len()).flat_map(of_mode).collect();
    let positions = graph.integers(&positions, &[positions.len()]);
    graph.node("pooled/ordered", "Gather", &[&pooled, &positions], &[Attribute::Int("axis", 1)])
}

/// Packs the weights and notes what the operator does with them.
struct Packing<'w> {
    weights: TensorFile<'w>,
    encoder: &'w Encoder<'w>,
    recipe: &'w NativeRecipe,
    rounded: &'w RoundedLayers,
    orders: &'w Orders,
}

impl<'w> Packing<'w> {
    fn encoder(&mut self) -> Plan {
        let encoder = self.encoder;
        Plan {
            hidden: encoder.hidden_size,
            heads: encoder.heads,
            epsilon: encoder.layer_norm_eps,
            embeddings: self.embeddings(),
            layers: (0..encoder.layers.len()).map(|index| self.layer(index)).collect(),
            farthest: self.relative_attention(),
            activation: encoder.activation,
            pooling: encoder.pooling.clone(),
        }
    }

    fn embeddings(&mut self) -> EmbeddingsPlan {
        let embeddings = &self.encoder.embeddings;
        let width = embeddings.width();
        let group = self.recipe.word_group;
        let projection = embeddings.projection.is_some();
        let order = if projection { Arc::new(ChannelOrder::Source) } else { self.orders.hidden() };
        let words = &embeddings.words;
        let vocabulary = words.shape()[0];
        let shapes = [
            (tensor::WORD_EMBEDDINGS, Dtype::I8, vec![vocabulary, width]),
            (tensor::WORD_SCALES, Dtype::F32, vec![vocabulary, width.div_ceil(group)]),
        ];
        self.weights.add(Part::new(shapes.map(|(name, dtype, shape)| (name.to_owned(), dtype, shape)), {
            let order = Arc::clone(&order);
            move || {
                let table: Vec<f32> = order.apply_to_rows(&words.read()?).collect();
                let (integers, scales) = quantize::by_row(&table, width, group);
                let scales = scales.iter().flat_map(|scale| scale.to_le_bytes());
                Ok(integers.into_iter().map(i8::cast_unsigned).chain(scales).collect())
            }
        }));
        let positions = embeddings.positions.table.shape();
        self.weights.add(Part::of_floats(tensor::POSITION_EMBEDDINGS, positions, {
            let order = Arc::clone(&order);
            move || Ok(order.apply_to_rows(&embeddings.position_rows()?).collect())
        }));
        self.norm(tensor::EMBEDDINGS, &embeddings.norm, &order);
        let projection =
            projection.then(|| self.linear(tensor::PROJECTION, (0, LinearInput::Projection), self.orders.hidden()));
        EmbeddingsPlan { width, word_group: group, padding: embeddings.positions.padding, projection }
    }

    fn layer(&mut self, index: usize) -> LayerPlan {
        let layer = &self.encoder.layers[index];
        let hidden = self.orders.hidden();
        let [qkv, context, intermediate, output] = tensor::layer(index);
        let plan = LayerPlan {
            qkv: self.linear(&qkv, (index, LinearInput::Attention), Arc::new(ChannelOrder::Source)),
            attention_output: self.linear(&context, (index, LinearInput::AttentionOutput), Arc::clone(&hidden)),
            intermediate: self.linear(&intermediate, (index, LinearInput::Intermediate), self.orders.inner(index)),
            output: self.linear(&output, (index, LinearInput::Output), Arc::clone(&hidden)),
        };
        self.norm(&context, &layer.attention_norm, &hidden);
        self.norm(&output, &layer.output_norm, &hidden);
        plan
    }

    /// Packs the linear layers that share an input into one, with concatenated outputs. `outputs` is the packed order of
    /// the outputs.
    fn linear(&mut self, prefix: &str, key: (usize, LinearInput), outputs: Arc<ChannelOrder>) -> LinearPlan {
        let linears = self.encoder.linears(key);
        let layout = self.recipe.input(key.1).layout(linears[0].weight.shape()[1]);
        let weights: &Rounded = &self.rounded.weights[&key];
        let count = weights.outputs;
        let shapes = layout.packed_shapes(count);
        let shapes = [
            (tensor::WEIGHT, Dtype::I8, shapes.weights.to_vec()),
            (tensor::SCALE, Dtype::F32, shapes.scales.to_vec()),
            (tensor::BIAS, Dtype::F32, shapes.bias.to_vec()),
        ];
        let tensors = shapes.map(|(part, dtype, shape)| (tensor::of(prefix, part), dtype, shape));
        self.weights.add(Part::new(tensors, move || {
            let bias = linears.iter().map(|linear| linear.bias.read()).collect::<Result<Vec<_>, _>>()?.concat();
            Ok(pack(weights, &bias, layout, &outputs).into_bytes())
        }));
        LinearPlan::new(layout, count)
    }

    /// Packs the attention bias. Returns its largest distance.
    fn relative_attention(&mut self) -> Option<usize> {
        let relative = self.encoder.relative_attention.as_ref()?;
        let farthest = self.encoder.farthest();
        let shape = [self.encoder.heads, 2 * farthest + 1];
        let table = move || relative.by_distance(farthest);
        self.weights.add(Part::of_floats(tensor::RELATIVE_ATTENTION_BIAS, &shape, table));
        Some(farthest)
    }

    /// Adds the tensors of the layer norm that follows `prefix`.
    fn norm(&mut self, prefix: &str, norm: &'w LayerNorm<'w>, order: &Arc<ChannelOrder>) {
        for (part, source) in [(tensor::NORM_WEIGHT, &norm.weight), (tensor::NORM_BIAS, &norm.bias)] {
            let order = Arc::clone(order);
            let values = move || Ok(order.apply_to_rows(&source.read()?).collect());
            self.weights.add(Part::of_floats(&tensor::of(prefix, part), source.shape(), values));
        }
    }
}

#[cfg(test)]
mod tests;
