//! Lowers the encoder to embedd's own operator: a graph with one node, which has the plan of the encoder, and a second
//! file with the packed weights.
//!
//! The operator finds its tensors in the weights file by name ([`plan::tensor`]). Inside, the channels of the hidden
//! states are reordered (see [`order`]); the graph restores the order at the end.

use std::sync::Arc;

use safetensors::Dtype;

use super::encoder::{Distances, Encoder, LinearInput, Module, Norm, Norms};
use super::gptq::Rounded;
use super::onnx::{Attribute, Dim, GraphBuilder, Value};
use super::quantize;
use super::rounding::RoundedLayers;
use crate::onnx_proto::tensor_proto::DataType;
use embedd_kernels::{NormKind, PositionRule};
use embedd_model::bundle::graph_io;
use embedd_model::native::plan::{
    self, DistancesPlan, EmbeddingsPlan, LayerPlan, LinearPlan, ModulePlan, NormPlan, NormsPlan, Plan, tensor,
};

mod file;
mod order;
mod pack;
mod recipe;
mod rounding;

use file::{Part, TensorFile};
use order::{ChannelOrder, Orders};
use pack::pack;
pub(super) use recipe::NativeRecipe;
pub(super) use rounding::{NativeWeights, round};

/// The recipe's name in the manifest.
pub(super) const RECIPE: &str = "int8-groups";
/// The type of most of its weights.
pub(super) const PRECISION: &str = "int8";

/// The contents of the native model's two files.
pub(super) struct NativeModel<'w> {
    /// Inputs `input_ids` `[tokens]`, `text_offsets` `[texts + 1]` and `excluded_tokens` `[texts]`, int64; output
    /// `pooled_embedding`, float32 `[texts, width]`.
    pub(super) graph: GraphBuilder<'w>,
    /// The tensors that the operator uses.
    pub(super) weights: TensorFile<'w>,
}

/// Builds the native model from weights that [`round`] has rounded with the same recipe.
pub(super) fn lower<'w>(
    encoder: &'w Encoder<'w>,
    weights: &'w NativeWeights,
    recipe: &'w NativeRecipe,
) -> NativeModel<'w> {
    let NativeWeights { rounded, orders } = weights;
    let mut packing = Packing { weights: TensorFile::default(), encoder, recipe, rounded, orders };
    let plan = packing.encoder();
    let Packing { weights, orders, .. } = packing;

    let mut graph = GraphBuilder::new(encoder.architecture);
    let ids = graph.input(graph_io::INPUT_IDS, DataType::Int64, &[Dim::Named("tokens")]);
    let offsets = graph.input(graph_io::TEXT_OFFSETS, DataType::Int64, &[Dim::Named("offsets")]);
    let excluded = graph.input(graph_io::EXCLUDED_TOKENS, DataType::Int64, &[Dim::Named("texts")]);
    let plan = serde_json::to_string(&plan).expect("a plan has only numbers and names");
    let attributes = [Attribute::Text(plan::PLAN, &plan)];
    let pooled = graph.node_in(plan::DOMAIN, "encoder", plan::OPERATOR, &[&ids, &offsets, &excluded], &attributes);
    let has_dense = encoder.modules.iter().any(|module| module.dense().is_some());
    let order = if has_dense { Arc::new(ChannelOrder::Source) } else { orders.pooled() };
    let pooled = restore_channel_order(&mut graph, encoder, &order, pooled);
    let shape = [Dim::Named("texts"), Dim::Fixed(encoder.width())];
    graph.output(graph_io::POOLED_EMBEDDING, &pooled, DataType::Float, &shape);
    NativeModel { graph, weights }
}

/// Restores the order of an embedding's components, and cuts them off.
fn restore_channel_order(
    graph: &mut GraphBuilder<'_>,
    encoder: &Encoder<'_>,
    order: &ChannelOrder,
    pooled: Value,
) -> Value {
    let positions = match order.positions() {
        None if encoder.truncation.is_none() => return pooled,
        None => (0..encoder.width()).collect(),
        Some(positions) => positions,
    };
    let positions: Vec<i64> = positions.into_iter().take(encoder.width()).map(|position| position as i64).collect();
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
        let norm = encoder.norms().next().map_or((NormKind::Layer, 1e-12), |norm| (norm.kind, norm.epsilon));
        if let Some(norm) = &encoder.final_norm {
            self.norm(tensor::FINAL, norm, &self.orders.hidden());
        }
        Plan {
            hidden: encoder.hidden_size,
            norm: NormPlan { kind: norm.0, epsilon: norm.1 },
            embeddings: self.embeddings(),
            heads: encoder.heads,
            squared_divisor: encoder.squared_divisor,
            distances: self.distances(),
            query_key_norms: encoder.layers.iter().any(|layer| layer.query_key_norms.is_some()),
            activation: encoder.activation,
            gated: encoder.layers.iter().any(|layer| layer.gate.is_some()),
            layers: (0..encoder.layers.len()).map(|index| self.layer(index)).collect(),
            final_norm: encoder.final_norm.is_some(),
            pooling: encoder.pooling.clone(),
            modules: self.modules(),
        }
    }

    fn embeddings(&mut self) -> EmbeddingsPlan {
        let embeddings = &self.encoder.embeddings;
        let width = embeddings.width();
        let group = self.recipe.word_group;
        let projection = embeddings.projection.is_some();
        let order = if projection { Arc::new(ChannelOrder::Source) } else { self.orders.hidden() };
        let vocabulary = embeddings.words.shape()[0];
        let shapes = [
            (tensor::WORD_EMBEDDINGS, Dtype::I8, vec![vocabulary, width]),
            (tensor::WORD_SCALES, Dtype::F32, vec![vocabulary, width.div_ceil(group)]),
        ];
        self.weights.add(Part::new(shapes.map(|(name, dtype, shape)| (name.to_owned(), dtype, shape)), {
            let order = Arc::clone(&order);
            move || {
                let table: Vec<f32> = order.apply_to_rows(&embeddings.word_rows()?).collect();
                let (integers, scales) = quantize::by_row(&table, width, group);
                let scales = scales.iter().flat_map(|scale| scale.to_le_bytes());
                Ok(integers.into_iter().map(i8::cast_unsigned).chain(scales).collect())
            }
        }));
        self.weights.add(Part::of_floats(tensor::POSITION_EMBEDDINGS, &embeddings.position_shape(), {
            let order = Arc::clone(&order);
            move || Ok(order.apply_to_rows(&embeddings.position_rows()?).collect())
        }));
        if let Some(norm) = &embeddings.norm {
            self.norm(tensor::EMBEDDINGS, norm, &order);
        }
        let projection =
            projection.then(|| self.linear(tensor::PROJECTION, (0, LinearInput::Projection), self.orders.hidden()));
        EmbeddingsPlan {
            width,
            word_group: group,
            positions: match embeddings.positions.as_ref().map(|positions| positions.padding) {
                None => PositionRule::Constant,
                Some(None) => PositionRule::Sequential,
                Some(Some(padding)) => PositionRule::SkippingPadding { padding },
            },
            norm: embeddings.norm.is_some(),
            projection,
        }
    }

    fn layer(&mut self, index: usize) -> LayerPlan {
        let layer = &self.encoder.layers[index];
        let hidden = self.orders.hidden();
        let source = Arc::new(ChannelOrder::Source);
        let [qkv, context, intermediate, output] = tensor::layer(index);
        let [attention_norms, output_norms] = tensor::norms(index);
        if let Some(norms) = &layer.query_key_norms {
            for (prefix, norm) in tensor::query_key_norms(index).iter().zip(norms) {
                self.norm(prefix, norm, &source);
            }
        }
        self.layer_distances(index);
        let inner = self.orders.inner(index);
        let inner = match layer.gate {
            // The gate and the other layer have the same order.
            Some(_) => Arc::new(inner.repeated(layer.output.inputs(), 2)),
            None => inner,
        };
        LayerPlan {
            reach: layer.reach,
            theta: layer.theta,
            qkv: self.linear(&qkv, (index, LinearInput::Attention), source),
            attention_output: self.linear(&context, (index, LinearInput::AttentionOutput), Arc::clone(&hidden)),
            attention_norms: self.norms(&attention_norms, &layer.attention_norms, &hidden),
            intermediate: self.linear(&intermediate, (index, LinearInput::Intermediate), inner),
            output: self.linear(&output, (index, LinearInput::Output), Arc::clone(&hidden)),
            output_norms: self.norms(&output_norms, &layer.output_norms, &hidden),
        }
    }

    fn modules(&mut self) -> Vec<ModulePlan> {
        let source = Arc::new(ChannelOrder::Source);
        let mut order = self.orders.pooled();
        let mut plans = Vec::new();
        for (index, module) in self.encoder.modules.iter().enumerate() {
            let prefix = tensor::module(index);
            plans.push(match module {
                Module::Norm(norm) => {
                    self.norm(&prefix, norm, &order);
                    ModulePlan::Norm(NormPlan { kind: norm.kind, epsilon: norm.epsilon })
                }
                Module::Dense { activation, .. } => {
                    order = Arc::clone(&source);
                    let linear = self.linear(&prefix, (index, LinearInput::Dense), Arc::clone(&source));
                    ModulePlan::Dense { linear, activation: *activation }
                }
            });
        }
        plans
    }

    /// Packs the linear layers that share an input into one, with concatenated outputs. `outputs` is the packed order of
    /// the outputs.
    fn linear(&mut self, prefix: &str, key: (usize, LinearInput), outputs: Arc<ChannelOrder>) -> LinearPlan {
        let linears = self.encoder.linears(key);
        let layout = self.recipe.input(key.1).layout(linears[0].inputs());
        let weights: &Rounded = &self.rounded[&key];
        let count = weights.outputs;
        let shapes = layout.packed_shapes(count);
        let shapes = [
            (tensor::WEIGHT, Dtype::I8, shapes.weights.to_vec()),
            (tensor::SCALE, Dtype::F32, shapes.scales.to_vec()),
            (tensor::BIAS, Dtype::F32, shapes.bias.to_vec()),
        ];
        let tensors = shapes.map(|(part, dtype, shape)| (tensor::of(prefix, part), dtype, shape));
        self.weights.add(Part::new(tensors, move || {
            let bias = linears.iter().map(|linear| linear.biases()).collect::<Result<Vec<_>, _>>()?.concat();
            Ok(pack(weights, &bias, layout, &outputs).into_bytes())
        }));
        LinearPlan::new(layout, count)
    }

    /// Packs the attention bias, if there is one.
    fn distances(&mut self) -> DistancesPlan {
        let farthest = self.encoder.farthest();
        match &self.encoder.distances {
            Distances::None => DistancesPlan::None,
            Distances::Bias(relative) => {
                let shape = [self.encoder.heads.query, 2 * farthest + 1];
                let table = move || relative.by_distance(farthest);
                self.weights.add(Part::of_floats(tensor::RELATIVE_ATTENTION_BIAS, &shape, table));
                DistancesPlan::Bias { farthest }
            }
            Distances::Disentangled(disentangled) => DistancesPlan::Disentangled {
                keys: disentangled.has_keys(),
                queries: disentangled.has_queries(),
                embeddings: disentangled.rows(),
                by_distance: disentangled.row_by_distance(farthest),
            },
        }
    }

    /// Packs a layer's embeddings of distances.
    fn layer_distances(&mut self, index: usize) {
        let Distances::Disentangled(disentangled) = &self.encoder.distances else { return };
        let heads = self.encoder.heads;
        let shape = [disentangled.rows(), heads.query, heads.size];
        let [keys, queries] = tensor::distances(index);
        if disentangled.has_keys() {
            self.weights.add(Part::of_floats(&keys, &shape, move || disentangled.keys(index)));
        }
        if disentangled.has_queries() {
            self.weights.add(Part::of_floats(&queries, &shape, move || disentangled.queries(index)));
        }
    }

    fn norms(&mut self, prefixes: &[String; 3], norms: &'w Norms<'w>, order: &Arc<ChannelOrder>) -> NormsPlan {
        let all = [&norms.input, &norms.output, &norms.sum];
        for (prefix, norm) in prefixes.iter().zip(all) {
            if let Some(norm) = norm {
                self.norm(prefix, norm, order);
            }
        }
        let [input, output, sum] = all.map(Option::is_some);
        NormsPlan { input, output, sum }
    }

    fn norm(&mut self, prefix: &str, norm: &'w Norm<'w>, order: &Arc<ChannelOrder>) {
        let shape = [norm.channels()];
        let (weights, biases) = (Arc::clone(order), Arc::clone(order));
        let weights = move || Ok(weights.apply_to_rows(&norm.weights()?).collect());
        let biases = move || Ok(biases.apply_to_rows(&norm.biases()?).collect());
        self.weights.add(Part::of_floats(&tensor::of(prefix, tensor::NORM_WEIGHT), &shape, weights));
        self.weights.add(Part::of_floats(&tensor::of(prefix, tensor::NORM_BIAS), &shape, biases));
    }
}

#[cfg(test)]
mod tests;
