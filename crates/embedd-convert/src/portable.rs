//! Lowers the encoder to a graph of standard and `com.microsoft` operators, which any stock ONNX Runtime can run.

mod pooling;
mod product;

pub(crate) use product::Scheme;
use product::{Prepared, Product};

use super::encoder::{Encoder, Layer, LayerNorm, Linear, LinearInput, RelativeAttention};
use super::onnx::{Attribute, Dim, GraphBuilder, MICROSOFT, Value};
use super::weights::{Tensor, WeightsError};
use crate::onnx_proto::tensor_proto::DataType;
use embedd_kernels::Activation;
use embedd_model::bundle::graph_io;

/// The lower bound of the norm, as in PyTorch's `normalize`.
const MIN_NORM: f32 = 1e-12;

/// Lowers the encoder to a graph whose linear layers are computed by `scheme`.
///
/// Inputs `input_ids` and `attention_mask`, int64 `[batch, sequence]`. Outputs, float32: `last_hidden_state`
/// `[batch, sequence, hidden]`, `sentence_embedding` `[batch, width]` with an L2 norm of 1, and `pooled_embedding`, the
/// same before normalization.
///
/// # Errors
/// [`WeightsError`] if weights that are needed for quantization cannot be read.
pub(crate) fn lower<'w>(encoder: &'w Encoder<'w>, scheme: Scheme<'w>) -> Result<GraphBuilder<'w>, WeightsError> {
    lower_with(encoder, scheme, Observation::Off)
}

/// Lowers the encoder to a float32 graph that has the input of each linear layer as an additional output; see
/// [`observed_output`](super::encoder::observed_output).
///
/// # Errors
/// The same as for [`lower`].
pub(crate) fn lower_observed<'w>(encoder: &'w Encoder<'w>) -> Result<GraphBuilder<'w>, WeightsError> {
    lower_with(encoder, Scheme::Float32, Observation::On)
}

/// Whether the inputs of linear layers are outputs of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Observation {
    Off,
    On,
}

fn lower_with<'w>(
    encoder: &'w Encoder<'w>,
    scheme: Scheme<'w>,
    observation: Observation,
) -> Result<GraphBuilder<'w>, WeightsError> {
    let mut graph = GraphBuilder::new(encoder.architecture);
    let per_token = [Dim::Named("batch"), Dim::Named("sequence")];
    let ids = graph.input(graph_io::INPUT_IDS, DataType::Int64, &per_token);
    let mask = graph.input(graph_io::ATTENTION_MASK, DataType::Int64, &per_token);

    let sequence = sequence_length(&mut graph, &ids);
    let padding = graph.node("padding_mask", "Cast", &[&mask], &[Attribute::Int("to", DataType::Int32 as i64)]);
    let bias =
        encoder.relative_attention.as_ref().map(|relative| relative_bias(&mut graph, relative, encoder, &sequence));
    let attention = AttentionInputs { padding, bias: bias.unwrap_or_else(GraphBuilder::absent) };

    let embedded = embed(&mut graph, encoder, scheme, &ids, &sequence)?;
    let mut states = project(&mut graph, encoder, scheme, observation, embedded)?;
    for (index, layer) in encoder.layers.iter().enumerate() {
        let prefix = format!("layer.{index}");
        let product = Product { graph: &mut graph, scheme, observation, layer: index, prefix: prefix.clone() };
        states = Lowering { product, encoder, prefix }.layer(layer, &states, &attention)?;
    }
    let pooled = pool(&mut graph, encoder, &states, &mask);
    let normalized = normalize(&mut graph, &pooled);

    let hidden = Dim::Fixed(encoder.hidden_size);
    graph.output(graph_io::TOKEN_STATES, &states, DataType::Float, &[per_token[0], per_token[1], hidden]);
    let per_text = [per_token[0], Dim::Fixed(encoder.width())];
    graph.output(graph_io::SENTENCE_EMBEDDING, &normalized, DataType::Float, &per_text);
    graph.output(graph_io::POOLED_EMBEDDING, &pooled, DataType::Float, &per_text);
    Ok(graph)
}

/// Inputs of attention that all layers share.
struct AttentionInputs {
    /// int32 `[batch, sequence]`, 1 for tokens, 0 for padding.
    padding: Value,
    /// float32 `[1, heads, sequence, sequence]`, or absent.
    bias: Value,
}

/// int64 `[1]`.
fn sequence_length(graph: &mut GraphBuilder<'_>, ids: &Value) -> Value {
    graph.node("sequence_length", "Shape", &[ids], &[Attribute::Int("start", 1), Attribute::Int("end", 2)])
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
    sequence: &Value,
) -> Value {
    let farthest = encoder.farthest();
    let heads = encoder.heads;
    let by_distance =
        graph.weight("relative_attention_bias", &[heads, 2 * farthest + 1], move || relative.by_distance(farthest));
    let position = counting(graph, "position", sequence);
    let first = graph.integers(&[0], &[1]);
    let second = graph.integers(&[1], &[1]);
    let keys = graph.node("key_position", "Unsqueeze", &[&position, &first], &[]);
    let queries = graph.node("query_position", "Unsqueeze", &[&position, &second], &[]);
    let distance = graph.node("distance", "Sub", &[&keys, &queries], &[]);
    let shift = graph.integers(&[farthest as i64], &[]);
    let column = graph.node("distance_column", "Add", &[&distance, &shift], &[]);
    let bias = graph.node("attention_bias/heads", "Gather", &[&by_distance, &column], &[Attribute::Int("axis", 1)]);
    graph.node("attention_bias", "Unsqueeze", &[&bias, &first], &[])
}

/// The sum of word and position embeddings, normalized: `[batch, sequence, width]`.
fn embed<'w>(
    graph: &mut GraphBuilder<'w>,
    encoder: &'w Encoder<'w>,
    scheme: Scheme<'w>,
    ids: &Value,
    sequence: &Value,
) -> Result<Value, WeightsError> {
    let embeddings = &encoder.embeddings;
    let words = product::look_up(graph, scheme, "word_embeddings", &embeddings.words, ids)?;
    let shape = embeddings.positions.table.shape();
    let table = graph.weight("position_embeddings", shape, move || embeddings.position_rows());
    let positions = match embeddings.positions.padding {
        None => {
            let zero = graph.integers(&[0], &[1]);
            graph.node("embeddings/positions", "Slice", &[&table, &zero, sequence, &zero], &[])
        }
        Some(padding) => {
            let rows = rows_skipping_padding(graph, ids, padding);
            graph.node("embeddings/positions", "Gather", &[&table, &rows], &[])
        }
    };
    let sum = graph.node("embeddings/sum", "Add", &[&words, &positions], &[]);
    let (scale, bias) = norm_weights(graph, "embeddings/norm", &embeddings.norm);
    let attributes = [Attribute::Int("axis", -1), Attribute::Float("epsilon", encoder.layer_norm_eps)];
    Ok(graph.node("embeddings", "LayerNormalization", &[&sum, &scale, &bias], &attributes))
}

/// The embeddings with as many channels as the hidden states: `[batch, sequence, hidden]`.
fn project<'w>(
    graph: &mut GraphBuilder<'w>,
    encoder: &'w Encoder<'w>,
    scheme: Scheme<'w>,
    observation: Observation,
    embedded: Value,
) -> Result<Value, WeightsError> {
    let Some(projection) = &encoder.embeddings.projection else { return Ok(embedded) };
    let mut product = Product { graph, scheme, observation, layer: 0, prefix: "embeddings".to_owned() };
    let input = product.prepare(LinearInput::Projection, &embedded);
    let projected = product.compute("projection", projection, &input)?;
    let bias = copy(graph, "embeddings/projection/bias", &projection.bias);
    Ok(graph.node("embeddings/projected", "Add", &[&projected, &bias], &[]))
}

/// int64 `[batch, sequence]`: see [`Positions::padding`](super::encoder::Positions::padding).
fn rows_skipping_padding(graph: &mut GraphBuilder<'_>, ids: &Value, padding: usize) -> Value {
    let padding = graph.integers(&[padding as i64], &[]);
    let axis = graph.integers(&[1], &[]);
    let is_padding = graph.node("is_padding", "Equal", &[ids, &padding], &[]);
    let is_token = graph.node("is_token/bool", "Not", &[&is_padding], &[]);
    let is_token = graph.node("is_token", "Cast", &[&is_token], &[Attribute::Int("to", DataType::Int64 as i64)]);
    let count = graph.node("token_number/running", "CumSum", &[&is_token, &axis], &[]);
    let number = graph.node("token_number", "Mul", &[&count, &is_token], &[]);
    graph.node("position_row", "Add", &[&number, &padding], &[])
}

/// One vector per text, not normalized: `[batch, width]`.
fn pool(graph: &mut GraphBuilder<'_>, encoder: &Encoder<'_>, states: &Value, mask: &Value) -> Value {
    let modes = encoder.pooling.modes();
    let vectors: Vec<Value> = modes.iter().map(|&mode| pooling::pool(graph, mode, states, mask)).collect();
    match vectors.as_slice() {
        [vector] => vector.clone(),
        vectors => {
            let vectors: Vec<&Value> = vectors.iter().collect();
            graph.node("pooled", "Concat", &vectors, &[Attribute::Int("axis", 1)])
        }
    }
}

fn normalize(graph: &mut GraphBuilder<'_>, pooled: &Value) -> Value {
    let attributes = [Attribute::Ints("axes", &[1]), Attribute::Int("keepdims", 1)];
    let norm = graph.node("norm/l2", "ReduceL2", &[pooled], &attributes);
    let min = graph.float(MIN_NORM);
    let norm = graph.node("norm", "Max", &[&norm, &min], &[]);
    graph.node("normalized", "Div", &[pooled, &norm], &[])
}

/// The lowering of one layer. The names of its nodes and weights start with `prefix`.
struct Lowering<'g, 'w> {
    product: Product<'g, 'w>,
    encoder: &'w Encoder<'w>,
    prefix: String,
}

impl<'w> Lowering<'_, 'w> {
    fn layer(
        &mut self,
        layer: &'w Layer<'w>,
        states: &Value,
        attention: &AttentionInputs,
    ) -> Result<Value, WeightsError> {
        let input = self.product.prepare(LinearInput::Attention, states);
        let attended = self.attention(layer, &input, attention)?;
        let states = self.linear_and_norm(
            LinearInput::AttentionOutput,
            &layer.attention_output,
            &layer.attention_norm,
            &attended,
            states,
        )?;

        let input = self.product.prepare(LinearInput::Intermediate, &states);
        let inner = self.product.compute("intermediate", &layer.intermediate, &input)?;
        let bias = self.copy("intermediate/bias", &layer.intermediate.bias);
        let inner = self.activate(&inner, &bias);
        self.linear_and_norm(LinearInput::Output, &layer.output, &layer.output_norm, &inner, &states)
    }

    fn attention(
        &mut self,
        layer: &'w Layer<'w>,
        input: &Prepared,
        attention: &AttentionInputs,
    ) -> Result<Value, WeightsError> {
        let query = self.product.compute("attention/query", &layer.query, input)?;
        let key = self.product.compute("attention/key", &layer.key, input)?;
        let value = self.product.compute("attention/value", &layer.value, input)?;
        let hidden = self.encoder.hidden_size;
        let name = self.name("attention/bias");
        let bias = self.product.graph.weight(&name, &[3 * hidden], move || {
            Ok([layer.query.bias.read()?, layer.key.bias.read()?, layer.value.bias.read()?].concat())
        });
        let inputs = [&query, &key, &value, &bias, &attention.padding, &attention.bias];
        let name = self.name("attention");
        let heads = [Attribute::Int("num_heads", self.encoder.heads as i64)];
        Ok(self.product.graph.node_in(MICROSOFT, &name, "MultiHeadAttention", &inputs, &heads))
    }

    /// `norm(linear(input) + residual)`.
    fn linear_and_norm(
        &mut self,
        kind: LinearInput,
        linear: &'w Linear<'w>,
        norm: &'w LayerNorm<'w>,
        input: &Value,
        residual: &Value,
    ) -> Result<Value, WeightsError> {
        let prepared = self.product.prepare(kind, input);
        let product = self.product.compute(kind.part(), linear, &prepared)?;
        let bias = self.copy(&format!("{}/bias", kind.part()), &linear.bias);
        let name = self.name(&format!("{}/norm", kind.part()));
        let (scale, shift) = norm_weights(self.product.graph, &name, norm);
        let epsilon = [Attribute::Float("epsilon", self.encoder.layer_norm_eps)];
        let inputs = [&product, residual, &scale, &shift, &bias];
        Ok(self.product.graph.node_in(MICROSOFT, &name, "SkipLayerNormalization", &inputs, &epsilon))
    }

    /// `activation(inner + bias)`
    fn activate(&mut self, inner: &Value, bias: &Value) -> Value {
        let name = self.name("intermediate/activation");
        let graph = &mut *self.product.graph;
        match self.encoder.activation {
            Activation::Gelu => graph.node_in(MICROSOFT, &name, "BiasGelu", &[inner, bias], &[]),
            Activation::GeluTanh => graph.node_in(MICROSOFT, &name, "FastGelu", &[inner, bias], &[]),
            Activation::Relu => {
                let sum = graph.node(&format!("{name}/sum"), "Add", &[inner, bias], &[]);
                graph.node(&name, "Relu", &[&sum], &[])
            }
        }
    }

    fn copy(&mut self, part: &str, tensor: &'w Tensor<'w>) -> Value {
        let name = self.name(part);
        copy(self.product.graph, &name, tensor)
    }

    fn name(&self, part: &str) -> String {
        format!("{}/{part}", self.prefix)
    }
}

fn norm_weights<'w>(graph: &mut GraphBuilder<'w>, name: &str, norm: &'w LayerNorm<'w>) -> (Value, Value) {
    (copy(graph, &format!("{name}/weight"), &norm.weight), copy(graph, &format!("{name}/bias"), &norm.bias))
}

fn copy<'w>(graph: &mut GraphBuilder<'w>, name: &str, tensor: &'w Tensor<'w>) -> Value {
    graph.weight(name, tensor.shape(), move || tensor.read())
}

/// `[rows, columns]` to `[columns, rows]`, both row-major.
fn transpose(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns;
    let view = ndarray::ArrayView2::from_shape((rows, columns), values);
    // Cannot fail: `Tensor::read` returns as many values as the shape has.
    view.map_or_else(|_| Vec::new(), |view| view.t().iter().copied().collect())
}

#[cfg(test)]
mod tests {
    use super::transpose;

    #[test]
    fn transposing_swaps_rows_and_columns() {
        assert_eq!(transpose(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
