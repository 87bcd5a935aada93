//! Lowers the encoder to embedd's own operators: a small graph without weights, and a second file with the packed
//! weights.
//!
//! The graph's operators are in the domain `embedd`; each finds its tensors in the weights file by name
//! ([`native_io`]). Inside the graph, the channels of the hidden states are reordered (see [`order`]); the order is
//! restored at the end.

use std::sync::Arc;

use safetensors::Dtype;

use super::encoder::{Encoder, Layer, LayerNorm, Linear, LinearInput, Positions};
use super::gptq::Rounded;
use super::onnx::{Attribute, Dim, GraphBuilder, Value};
use super::quantize;
use crate::onnx_proto::tensor_proto::DataType;
use embedd_kernels::RowLayout;
use embedd_model::bundle::graph_io;
use embedd_model::bundle::native_io::{self, activation, attribute, operator, tensor};

mod file;
mod order;
mod pack;
mod recipe;
mod rounding;

use file::{Part, TensorFile};
use order::{ChannelOrder, Orders};
use pack::pack;
pub(super) use recipe::NativeRecipe;
use rounding::linears;
pub(super) use rounding::{RoundedLayers, round};

/// The recipe's name in the manifest.
pub(super) const RECIPE: &str = "int8-groups";
/// The type of most of its weights.
pub(super) const PRECISION: &str = "int8";

/// The contents of the native model's two files.
pub(super) struct NativeModel<'w> {
    /// Inputs `input_ids` `[tokens]` and `text_offsets` `[texts + 1]`, int64; output `pooled_embedding`, float32
    /// `[texts, hidden]`.
    pub(super) graph: GraphBuilder<'w>,
    /// The tensors that the graph's operators refer to.
    pub(super) weights: TensorFile<'w>,
}

/// Builds the native model from weights that [`round`] has rounded with the same recipe.
pub(super) fn lower<'w>(
    encoder: &'w Encoder<'w>,
    rounded: &'w RoundedLayers,
    recipe: &'w NativeRecipe,
) -> NativeModel<'w> {
    let graph = GraphBuilder::new(encoder.architecture);
    let weights = TensorFile::default();
    let mut lowering = Lowering { graph, weights, encoder, recipe, rounded, orders: &rounded.orders };
    let ids = lowering.graph.input(graph_io::INPUT_IDS, DataType::Int64, &[Dim::Named("tokens")]);
    let offsets = lowering.graph.input(graph_io::TEXT_OFFSETS, DataType::Int64, &[Dim::Named("offsets")]);

    let mut states = lowering.embed(&ids, &offsets);
    for (index, layer) in encoder.layers.iter().enumerate() {
        states = lowering.layer(index, layer, &states, &offsets);
    }
    let pooled = lowering.pool(&states, &offsets);
    let pooled = lowering.restore_channel_order(pooled);

    let Lowering { mut graph, weights, .. } = lowering;
    let shape = [Dim::Named("texts"), Dim::Fixed(encoder.hidden_size)];
    graph.output(graph_io::POOLED_EMBEDDING, &pooled, DataType::Float, &shape);
    NativeModel { graph, weights }
}

struct Lowering<'w> {
    graph: GraphBuilder<'w>,
    weights: TensorFile<'w>,
    encoder: &'w Encoder<'w>,
    recipe: &'w NativeRecipe,
    rounded: &'w RoundedLayers,
    orders: &'w Orders,
}

/// A fused linear layer: the linear layers that share an input, with concatenated outputs.
struct LinearLayer<'w> {
    prefix: String,
    linears: Vec<&'w Linear<'w>>,
    input: RowLayout,
    weights: &'w Rounded,
    outputs: Arc<ChannelOrder>,
}

/// The operation that the operator applies to the product.
enum Epilogue<'a, 'w> {
    None,
    Gelu,
    /// Adds a residual and applies a layer norm.
    Norm(&'a Value, &'w LayerNorm<'w>),
}

impl Epilogue<'_, '_> {
    fn activation(&self) -> &'static str {
        match self {
            Self::Gelu => activation::GELU,
            Self::None | Self::Norm(..) => activation::NONE,
        }
    }
}

impl<'w> Lowering<'w> {
    /// `[tokens, hidden]`
    fn embed(&mut self, ids: &Value, offsets: &Value) -> Value {
        let Encoder { word_embeddings, positions, hidden_size, .. } = self.encoder;
        let vocabulary = word_embeddings.shape()[0];
        let hidden = *hidden_size;
        let order = self.orders.hidden();
        let group = self.recipe.word_group;
        let shapes = [
            (tensor::WORD_EMBEDDINGS, Dtype::I8, vec![vocabulary, hidden]),
            (tensor::WORD_SCALES, Dtype::F32, vec![vocabulary, hidden.div_ceil(group)]),
        ];
        self.weights.add(Part::new(shapes.map(|(name, dtype, shape)| (name.to_owned(), dtype, shape)), {
            let order = Arc::clone(&order);
            move || {
                let table: Vec<f32> = order.apply_to_rows(&word_embeddings.read()?).collect();
                let (integers, scales) = quantize::by_row(&table, hidden, group);
                let scales = scales.iter().flat_map(|scale| scale.to_le_bytes());
                Ok(integers.into_iter().map(i8::cast_unsigned).chain(scales).collect())
            }
        }));
        self.weights.add(Part::of_floats(tensor::POSITION_EMBEDDINGS, positions.table().shape(), move || {
            Ok(order.apply_to_rows(&positions.rows()?).collect())
        }));
        self.norm(tensor::EMBEDDINGS, &self.encoder.embedding_norm);

        let mut attributes = vec![
            Attribute::Float(attribute::EPSILON, self.encoder.layer_norm_eps),
            Attribute::Int(attribute::WORD_GROUP, self.recipe.word_group as i64),
        ];
        if let Positions::SkippingPadding { padding, .. } = positions {
            attributes.push(Attribute::Int(attribute::PADDING, *padding as i64));
        }
        self.graph.node_in(native_io::DOMAIN, "embeddings", operator::EMBED, &[ids, offsets], &attributes)
    }

    fn layer(&mut self, index: usize, layer: &'w Layer<'w>, states: &Value, offsets: &Value) -> Value {
        let hidden = self.orders.hidden();
        let inner = self.orders.inner(index);
        let linear = |kind: LinearInput, part: &str, outputs| {
            let linears = linears(layer, kind);
            let input = self.recipe.input(kind).layout(linears[0].weight.shape()[1]);
            let prefix = format!("layer.{index}/{part}");
            LinearLayer { prefix, linears, input, weights: &self.rounded.weights[&(index, kind)], outputs }
        };
        let qkv = linear(LinearInput::Attention, "attention/qkv", Arc::new(ChannelOrder::Source));
        let context = linear(LinearInput::AttentionOutput, "attention_output", Arc::clone(&hidden));
        let intermediate = linear(LinearInput::Intermediate, "intermediate", inner);
        let output = linear(LinearInput::Output, "output", hidden);

        let qkv = self.linear(qkv, states, &Epilogue::None);
        let attended = self.attention(&format!("layer.{index}/attention"), &qkv, offsets);
        let states = self.linear(context, &attended, &Epilogue::Norm(states, &layer.attention_norm));
        let inner = self.linear(intermediate, &states, &Epilogue::Gelu);
        self.linear(output, &inner, &Epilogue::Norm(&states, &layer.output_norm))
    }

    fn linear(&mut self, layer: LinearLayer<'w>, input: &Value, epilogue: &Epilogue<'_, 'w>) -> Value {
        let LinearLayer { prefix, linears, input: layout, weights, outputs } = layer;
        let count = weights.outputs;
        let shapes = layout.packed_shapes(count);
        let shapes = [
            (tensor::WEIGHT, Dtype::I8, shapes.weights.to_vec()),
            (tensor::SCALE, Dtype::F32, shapes.scales.to_vec()),
            (tensor::BIAS, Dtype::F32, shapes.bias.to_vec()),
        ];
        let tensors = shapes.map(|(part, dtype, shape)| (tensor::of(&prefix, part), dtype, shape));
        self.weights.add(Part::new(tensors, move || {
            let bias = linears.iter().map(|linear| linear.bias.read()).collect::<Result<Vec<_>, _>>()?.concat();
            Ok(pack(weights, &bias, layout, &outputs).into_bytes())
        }));

        let number = |name, value: usize| Attribute::Int(name, value as i64);
        let mut attributes = vec![
            Attribute::Text(attribute::WEIGHTS, &prefix),
            number(attribute::INPUTS, layout.inputs),
            number(attribute::OUTPUTS, count),
            number(attribute::SPLIT, layout.split),
            number(attribute::GROUP, layout.group),
            Attribute::Text(attribute::ACTIVATION, epilogue.activation()),
        ];
        let mut operands = vec![input];
        if let Epilogue::Norm(residual, norm) = epilogue {
            operands.push(residual);
            attributes.push(Attribute::Float(attribute::EPSILON, self.encoder.layer_norm_eps));
            self.norm(&prefix, norm);
        }
        self.graph.node_in(native_io::DOMAIN, &prefix, operator::QUANTIZED_LINEAR, &operands, &attributes)
    }

    /// `[tokens, hidden]`
    fn attention(&mut self, name: &str, qkv: &Value, offsets: &Value) -> Value {
        let mut attributes = vec![Attribute::Int(attribute::HEADS, self.encoder.heads as i64)];
        if let Some(relative) = &self.encoder.relative_attention {
            let farthest = self.encoder.farthest();
            attributes.push(Attribute::Int(attribute::FARTHEST, farthest as i64));
            let shape = [self.encoder.heads, 2 * farthest + 1];
            let table = move || relative.by_distance(farthest);
            self.weights.add_once(Part::of_floats(tensor::RELATIVE_ATTENTION_BIAS, &shape, table));
        }
        self.graph.node_in(native_io::DOMAIN, name, operator::ATTENTION, &[qkv, offsets], &attributes)
    }

    /// One vector per text, not normalized: `[texts, hidden]`.
    fn pool(&mut self, states: &Value, offsets: &Value) -> Value {
        let attributes = [Attribute::Text(attribute::POOLING, self.encoder.pooling.name())];
        self.graph.node_in(native_io::DOMAIN, "pooled", operator::POOL, &[states, offsets], &attributes)
    }

    fn restore_channel_order(&mut self, pooled: Value) -> Value {
        let Some(positions) = self.orders.hidden().positions() else { return pooled };
        let positions: Vec<i64> = positions.into_iter().map(|position| position as i64).collect();
        let positions = self.graph.integers(&positions, &[positions.len()]);
        self.graph.node("pooled/ordered", "Gather", &[&pooled, &positions], &[Attribute::Int("axis", 1)])
    }

    /// Adds the tensors of the layer norm that follows the operator `prefix`.
    fn norm(&mut self, prefix: &str, norm: &'w LayerNorm<'w>) {
        for (part, source) in [(tensor::NORM_WEIGHT, &norm.weight), (tensor::NORM_BIAS, &norm.bias)] {
            let order = self.orders.hidden();
            let values = move || Ok(order.apply_to_rows(&source.read()?).collect());
            self.weights.add(Part::of_floats(&tensor::of(prefix, part), source.shape(), values));
        }
    }
}

#[cfg(test)]
mod tests;
