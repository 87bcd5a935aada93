//! Lowers the encoder to a graph of standard and `com.microsoft` operators, which any stock ONNX Runtime can run.

mod attention;
mod layer;
mod long;
mod operators;
mod pooling;
mod product;
mod shared;
mod weights;

use layer::Lowering;
use operators::{activate, normalized};
use product::Product;
pub(crate) use product::Scheme;
use shared::Attention;
pub(crate) use weights::PerTokenWeights;

use super::encoder::{Encoder, LinearInput, Module};
use super::onnx::{Attribute, Dim, Floats, GraphBuilder, Value};
use super::weights::{Tensor, WeightsError};
use crate::onnx_proto::tensor_proto::DataType;
use embedd_model::bundle::graph_io;

/// The lower bound of the norm, as in PyTorch's `normalize`.
const MIN_NORM: f32 = 1e-12;

/// Lowers the encoder to a graph whose linear layers are computed by `scheme`.
///
/// Inputs `input_ids` and `attention_mask`, int64 `[batch, sequence]`, and `pooling_mask` of the same shape if the model
/// excludes prompts. Outputs, float32: `last_hidden_state`
/// `[batch, sequence, hidden]`, `sentence_embedding` `[batch, width]` with an L2 norm of 1, and `pooled_embedding`, the
/// same before normalization.
///
/// # Errors
/// [`WeightsError`] if weights that are needed for quantization cannot be read.
pub(crate) fn lower<'w>(encoder: &'w Encoder<'w>, scheme: Scheme<'w>) -> Result<GraphBuilder<'w>, WeightsError> {
    lower_with(encoder, scheme, Observation::Off, LongAttention::default())
}

/// Lowers the encoder to a float32 graph that has the input of each linear layer as an additional output; see
/// [`observed_output`](super::encoder::observed_output).
///
/// # Errors
/// The same as for [`lower`].
pub(crate) fn lower_observed<'w>(encoder: &'w Encoder<'w>) -> Result<GraphBuilder<'w>, WeightsError> {
    lower_with(encoder, Scheme::Float32, Observation::On, LongAttention::default())
}

/// Lowers the encoder to a float32 graph with other limits for long texts, so that tests can use short texts.
///
/// # Errors
/// The same as for [`lower`].
pub(crate) fn lower_with_blocks<'w>(
    encoder: &'w Encoder<'w>,
    long: LongAttention,
) -> Result<GraphBuilder<'w>, WeightsError> {
    lower_with(encoder, Scheme::Float32, Observation::Off, long)
}

/// When attention is computed for a block of queries at a time instead of all queries at once. With 12 heads, the scores
/// of all queries take 48 MiB for 1024 tokens, and 3 GiB for 8192.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongAttention {
    /// Texts with more tokens than this, including padding, are long.
    pub over: usize,
    /// Queries per block.
    pub block: usize,
}

impl Default for LongAttention {
    fn default() -> Self {
        Self { over: 1024, block: 128 }
    }
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
    long: LongAttention,
) -> Result<GraphBuilder<'w>, WeightsError> {
    let mut graph = GraphBuilder::new(encoder.architecture);
    let floats = match scheme {
        Scheme::Float16 => Floats::Float16,
        Scheme::EmulatedFloat16 => Floats::EmulatedFloat16,
        _ => Floats::Float32,
    };
    graph.set_floats(floats);
    let per_token = [Dim::Named("batch"), Dim::Named("sequence")];
    let ids = graph.input(graph_io::INPUT_IDS, DataType::Int64, &per_token);
    let mask = graph.input(graph_io::ATTENTION_MASK, DataType::Int64, &per_token);

    let sequence = sequence_length(&mut graph, &ids);
    let embedded = embed(&mut graph, encoder, scheme, &ids, &sequence)?;
    let mut states = project(&mut graph, encoder, scheme, observation, embedded)?;
    let attention = Attention::new(&mut graph, encoder, sequence, &mask, long);
    for (index, layer) in encoder.layers.iter().enumerate() {
        let prefix = format!("layer.{index}");
        let product = Product {
            graph: &mut graph,
            scheme,
            observation,
            layer: index,
            is_half_bounded: encoder.is_half_bounded(),
            prefix: prefix.clone(),
        };
        states = Lowering { product, encoder, attention: &attention, prefix }.layer(layer, &states)?;
    }
    if let Some(norm) = &encoder.final_norm {
        states = normalized(&mut graph, "final_norm", norm, &states);
    }
    // Sums over all tokens of a text exceed what float16 can represent.
    graph.set_floats(Floats::Float32);
    let states = graph.converted("final_states", &states, floats);
    let pooled_tokens = match encoder.excludes_prompts {
        true => graph.input(graph_io::POOLING_MASK, DataType::Int64, &per_token),
        false => mask.clone(),
    };
    let pooled = pool(&mut graph, encoder, &states, &mask, &pooled_tokens);
    let pooled = finish(&mut graph, encoder, scheme, observation, pooled)?;
    let normalized = normalize(&mut graph, &pooled);

    let hidden = Dim::Fixed(encoder.hidden_size);
    graph.output(graph_io::TOKEN_STATES, &states, DataType::Float, &[per_token[0], per_token[1], hidden]);
    let per_text = [per_token[0], Dim::Fixed(encoder.width())];
    graph.output(graph_io::SENTENCE_EMBEDDING, &normalized, DataType::Float, &per_text);
    graph.output(graph_io::POOLED_EMBEDDING, &pooled, DataType::Float, &per_text);
    Ok(graph)
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
    let mut sum = product::look_up(graph, scheme, "word_embeddings", embeddings, ids)?;
    if embeddings.positions.is_some() || embeddings.token_types.is_some() {
        let shape = embeddings.position_shape();
        let table = graph.weight("position_embeddings", &shape, move || embeddings.position_rows());
        let padding = embeddings.positions.as_ref().map(|positions| positions.padding);
        let positions = match padding {
            // The same row for all tokens.
            None => table,
            Some(None) => {
                let zero = graph.integers(&[0], &[1]);
                graph.node("embeddings/positions", "Slice", &[&table, &zero, sequence, &zero], &[])
            }
            Some(Some(padding)) => {
                let rows = rows_skipping_padding(graph, ids, padding);
                graph.node("embeddings/positions", "Gather", &[&table, &rows], &[])
            }
        };
        sum = graph.float_node("embeddings/sum", "Add", &[&sum, &positions]);
    }
    Ok(match &embeddings.norm {
        Some(norm) => normalized(graph, "embeddings", norm, &sum),
        None => sum,
    })
}

/// int64 `[1]`.
fn sequence_length(graph: &mut GraphBuilder<'_>, ids: &Value) -> Value {
    graph.node("sequence_length", "Shape", &[ids], &[Attribute::Int("start", 1), Attribute::Int("end", 2)])
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
    let mut product =
        Product { graph, scheme, observation, layer: 0, is_half_bounded: false, prefix: "embeddings".to_owned() };
    let input = product.prepare(LinearInput::Projection, &embedded);
    let projected = product.compute("projection", projection, &input)?;
    Ok(match &projection.bias {
        Some(bias) => {
            let bias = copy(graph, "embeddings/projection/bias", bias);
            graph.float_node("embeddings/projected", "Add", &[&projected, &bias])
        }
        None => projected,
    })
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
fn pool(
    graph: &mut GraphBuilder<'_>,
    encoder: &Encoder<'_>,
    states: &Value,
    mask: &Value,
    pooled_tokens: &Value,
) -> Value {
    let modes = encoder.pooling.modes();
    let vectors: Vec<Value> =
        modes.iter().map(|&mode| pooling::pool(graph, mode, states, mask, pooled_tokens)).collect();
    match vectors.as_slice() {
        [vector] => vector.clone(),
        vectors => {
            let vectors: Vec<&Value> = vectors.iter().collect();
            graph.node("pooled", "Concat", &vectors, &[Attribute::Int("axis", 1)])
        }
    }
}

/// The modules after the pooling, and the cut to fewer components: `[batch, width]`.
fn finish<'w>(
    graph: &mut GraphBuilder<'w>,
    encoder: &'w Encoder<'w>,
    scheme: Scheme<'w>,
    observation: Observation,
    mut vector: Value,
) -> Result<Value, WeightsError> {
    for (index, module) in encoder.modules.iter().enumerate() {
        let prefix = format!("module.{index}");
        vector = match module {
            Module::Norm(norm) => normalized(graph, &format!("{prefix}/norm"), norm, &vector),
            Module::Dense { linear, activation } => {
                let mut product = Product {
                    graph: &mut *graph,
                    scheme,
                    observation,
                    layer: index,
                    is_half_bounded: false,
                    prefix: prefix.clone(),
                };
                let input = product.prepare(LinearInput::Dense, &vector);
                let mut output = product.compute("dense", linear, &input)?;
                if let Some(bias) = &linear.bias {
                    let bias = copy(graph, &format!("{prefix}/dense/bias"), bias);
                    output = graph.node(&format!("{prefix}/dense"), "Add", &[&output, &bias], &[]);
                }
                match activation {
                    Some(activation) => activate(graph, &format!("{prefix}/activation"), *activation, &output),
                    None => output,
                }
            }
        };
    }
    if encoder.truncation.is_some() {
        let [zero, one, end] = [0, 1, encoder.width() as i64].map(|value| graph.integers(&[value], &[1]));
        vector = graph.node("truncated", "Slice", &[&vector, &zero, &end, &one], &[]);
    }
    Ok(vector)
}

fn normalize(graph: &mut GraphBuilder<'_>, pooled: &Value) -> Value {
    let attributes = [Attribute::Ints("axes", &[1]), Attribute::Int("keepdims", 1)];
    let norm = graph.node("norm/l2", "ReduceL2", &[pooled], &attributes);
    let min = graph.float(MIN_NORM);
    let norm = graph.node("norm", "Max", &[&norm, &min], &[]);
    graph.node("normalized", "Div", &[pooled, &norm], &[])
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
