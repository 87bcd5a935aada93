//! The linear layers of the portable graph: in float32 or float16, or quantized by a scheme.

use super::weights::PerTokenWeights;
use super::{Observation, transpose};
use crate::encoder::{Embeddings, Linear, LinearInput, observed_output};
use crate::onnx::{Attribute, Dim, GraphBuilder, MICROSOFT, Value};
use crate::onnx_proto::tensor_proto::DataType;
use crate::quantize;
use crate::rounding::Key;
use crate::weights::WeightsError;

/// Channels of a word embedding that share a scale. An outlier reduces the precision of these channels only.
const WORD_GROUP: usize = 64;
/// A lower bound of GELU.
const MIN_GELU: f32 = -0.17;
/// The zero point after GELU. The few steps below it suffice, because negative values are small. It makes 0 exact,
/// which matters because most values are near 0.
const GELU_ZERO_POINT: u8 = 32;
/// The zero point of inputs that are symmetric around 0.
const SYMMETRIC_ZERO_POINT: u8 = 128;
/// The minimum scale, which a token gets if its channels are all 0.
const MIN_SCALE: f32 = 1e-9;

/// How linear layers are computed.
#[derive(Clone, Copy)]
pub(crate) enum Scheme<'c> {
    /// In float32.
    Float32,
    /// In float16, as all of the encoder.
    Float16,
    /// As [`Float16`](Self::Float16), for the accuracy gate on CPUs.
    EmulatedFloat16,
    /// In float32, with weights stored in half precision.
    Half,
    /// In INT8 with one scale per tensor.
    DynamicPerTensor,
    /// In INT8 with a scale per token; the largest channels stay exact.
    PerToken(&'c PerTokenWeights<'c>),
}

/// An input in the form that the linear layers need.
pub(super) enum Prepared<'w> {
    Plain(Value),
    PerToken(PerToken<'w>),
}

pub(super) struct PerToken<'w> {
    /// uint8 `[batch, sequence, channels]`.
    integers: Value,
    /// A uint8 scalar.
    zero_point: Value,
    /// float32 `[batch, sequence, 1]`.
    scale: Value,
    /// float32 `[batch, sequence, exact channels]`.
    exact: Value,
    key: Key,
    weights: &'w PerTokenWeights<'w>,
}

/// The linear layers of one encoder layer.
pub(super) struct Product<'g, 'w> {
    pub(super) graph: &'g mut GraphBuilder<'w>,
    pub(super) scheme: Scheme<'w>,
    pub(super) observation: Observation,
    pub(super) layer: usize,
    /// Whether the values after the activation are never far below 0.
    pub(super) is_half_bounded: bool,
    pub(super) prefix: String,
}

impl<'w> Product<'_, 'w> {
    pub(super) fn prepare(&mut self, kind: LinearInput, input: &Value) -> Prepared<'w> {
        if self.observation == Observation::On {
            self.observe(kind, input);
        }
        match self.scheme {
            Scheme::PerToken(weights) => Prepared::PerToken(self.quantize((self.layer, kind), input, weights)),
            _ => Prepared::Plain(input.clone()),
        }
    }

    fn observe(&mut self, kind: LinearInput, input: &Value) {
        let name = self.name(&format!("{}/observed", kind.part()));
        let observed = self.graph.node(&name, "Identity", &[input], &[]);
        let [batch, sequence, channels] = ["batch", "sequence", "channels"].map(Dim::Named);
        let dims = if kind == LinearInput::Dense { vec![batch, channels] } else { vec![batch, sequence, channels] };
        self.graph.output(&observed_output(self.layer, kind), &observed, DataType::Float, &dims);
    }

    /// Quantizes each token with its own scale, so that no token depends on another.
    fn quantize(&mut self, key: Key, input: &Value, weights: &'w PerTokenWeights<'w>) -> PerToken<'w> {
        let kind = key.1;
        let exact_channels = weights.exact(key);
        let width = weights.inputs(key);
        let names = ["keep", "kept", "magnitude", "largest", "step", "scale", "steps", "integers", "exact"];
        let [keep, kept, magnitude, largest, step, scale, steps, integers, exact] =
            names.map(|part| self.name(&format!("{}/quantize/{part}", kind.part())));
        let graph = &mut *self.graph;
        let by_channel: Vec<f32> =
            (0..width).map(|channel| if exact_channels.contains(&channel) { 0.0 } else { 1.0 }).collect();
        let keep = graph.weight(&keep, &[width], move || Ok(by_channel.clone()));
        let kept = graph.node(&kept, "Mul", &[input, &keep], &[]);
        let (magnitudes, zero_point, steps_above_zero, min_scale) =
            if kind == LinearInput::Output && self.is_half_bounded {
                (kept.clone(), GELU_ZERO_POINT, u8::MAX - GELU_ZERO_POINT, -MIN_GELU / f32::from(GELU_ZERO_POINT))
            } else {
                (
                    graph.node(&magnitude, "Abs", &[&kept], &[]),
                    SYMMETRIC_ZERO_POINT,
                    u8::MAX - SYMMETRIC_ZERO_POINT,
                    MIN_SCALE,
                )
            };
        let last = [Attribute::Ints("axes", &[-1]), Attribute::Int("keepdims", 1)];
        let largest = graph.node(&largest, "ReduceMax", &[&magnitudes], &last);
        let share = graph.float(1.0 / f32::from(steps_above_zero));
        let min_scale = graph.float(min_scale);
        let one = graph.float(1.0);
        let step = graph.node(&step, "Mul", &[&largest, &share], &[]);
        let scale = graph.node(&scale, "Max", &[&step, &min_scale], &[]);
        let steps = graph.node(&steps, "Div", &[&kept, &scale], &[]);
        let zero_point = graph.byte(zero_point);
        let integers = graph.node(&integers, "QuantizeLinear", &[&steps, &one, &zero_point], &[]);
        let indices: Vec<i64> = exact_channels.iter().map(|&channel| channel as i64).collect();
        let indices = graph.integers(&indices, &[indices.len()]);
        let exact = graph.node(&exact, "Gather", &[input, &indices], &[Attribute::Int("axis", -1)]);
        PerToken { integers, zero_point, scale, exact, key, weights }
    }

    /// The product with the transposed weight, without the bias, which the next operator adds.
    pub(super) fn compute(
        &mut self,
        part: &str,
        linear: &'w Linear<'w>,
        input: &Prepared<'w>,
    ) -> Result<Value, WeightsError> {
        match input {
            Prepared::Plain(input) => self.plain(part, linear, input),
            Prepared::PerToken(input) => Ok(self.per_token(part, linear, input)),
        }
    }

    fn plain(&mut self, part: &str, linear: &'w Linear<'w>, input: &Value) -> Result<Value, WeightsError> {
        let weight = &linear.weight;
        let outputs = weight.shape()[0];
        let inputs = weight.shape()[1];
        let name = self.name(&format!("{part}/weight"));
        let product = self.name(&format!("{part}/product"));
        let transposed = move || Ok(transpose(&weight.read()?, inputs));
        let weight = match self.scheme {
            Scheme::DynamicPerTensor => {
                let (integers, scale) = quantize::by_tensor(&weight.read()?, inputs);
                let integers = self.graph.int8_weight(&name, &[inputs, outputs], move || Ok(integers.clone()));
                let scale = self.graph.float(scale);
                let operands = [input, &integers, &scale];
                return Ok(self.graph.node_in(MICROSOFT, &product, "DynamicQuantizeMatMul", &operands, &[]));
            }
            Scheme::Half => self.graph.half_weight(&name, &[inputs, outputs], transposed),
            Scheme::Float32 | Scheme::Float16 | Scheme::EmulatedFloat16 | Scheme::PerToken(_) => {
                self.graph.weight(&name, &[inputs, outputs], transposed)
            }
        };
        Ok(self.graph.node(&product, "MatMul", &[input, &weight], &[]))
    }

    /// INT8 for most channels, rescaled by token and output; float32 for the exact channels.
    fn per_token(&mut self, part: &str, linear: &'w Linear<'w>, input: &PerToken<'w>) -> Value {
        let outputs = linear.outputs();
        let inputs = linear.inputs();
        let PerToken { key, weights, .. } = *input;
        let names =
            ["weight", "scale", "integer_product", "scaled_product", "exact_weight", "exact_product", "product"];
        let [weight, scale, integer, scaled, exact_weight, exact_product, product] =
            names.map(|name| self.name(&format!("{part}/{name}")));

        let graph = &mut *self.graph;
        let weight = graph.int8_weight(&weight, &[inputs, outputs], move || Ok(weights.integers(key, linear)));
        let scale = graph.weight(&scale, &[outputs], move || Ok(weights.scales(key, linear)));
        let one = graph.float(1.0);
        let operands = [&input.integers, &weight, &one, &scale, &input.zero_point];
        let integer = graph.node_in(MICROSOFT, &integer, "MatMulIntegerToFloat", &operands, &[]);
        let scaled = graph.node(&scaled, "Mul", &[&integer, &input.scale], &[]);
        let exact_dims = [weights.exact(key).len(), outputs];
        let exact_weight =
            graph.half_weight(&exact_weight, &exact_dims, move || Ok(weights.exact_weights(key, linear)));
        let exact = graph.node(&exact_product, "MatMul", &[&input.exact, &exact_weight], &[]);
        graph.node(&product, "Add", &[&scaled, &exact], &[])
    }

    fn name(&self, part: &str) -> String {
        format!("{}/{part}", self.prefix)
    }
}

/// The embeddings of words for `ids`: `[batch, sequence, width]`.
pub(super) fn look_up<'w>(
    graph: &mut GraphBuilder<'w>,
    scheme: Scheme<'w>,
    name: &str,
    embeddings: &'w Embeddings<'w>,
    ids: &Value,
) -> Result<Value, WeightsError> {
    let shape = embeddings.words.shape();
    let [rows, width] = [shape[0], shape[1]];
    let floats = match scheme {
        Scheme::Float32 | Scheme::Float16 | Scheme::EmulatedFloat16 => {
            graph.weight(name, shape, move || embeddings.word_rows())
        }
        Scheme::Half => graph.half_weight(name, shape, move || embeddings.word_rows()),
        Scheme::PerToken(_) => {
            let group = if width.is_multiple_of(WORD_GROUP) { WORD_GROUP } else { width };
            let (integers, scales) = quantize::by_row(&embeddings.word_rows()?, width, group);
            return Ok(look_up_int8(graph, name, [rows, width / group, group], integers, scales, ids));
        }
        Scheme::DynamicPerTensor => {
            let (integers, scales) = quantize::by_row(&embeddings.word_rows()?, rows * width, rows * width);
            return Ok(look_up_int8(graph, name, [rows, 1, width], integers, scales.repeat(rows), ids));
        }
    };
    Ok(graph.node(&format!("{name}/found"), "Gather", &[&floats, ids], &[]))
}

/// Like [`look_up`], in an INT8 table `[rows, groups, channels per group]` with a scale per group.
fn look_up_int8<'w>(
    graph: &mut GraphBuilder<'w>,
    name: &str,
    [rows, groups, group]: [usize; 3],
    integers: Vec<i8>,
    scales: Vec<f32>,
    ids: &Value,
) -> Value {
    let found = format!("{name}/found");
    let integers = graph.int8_weight(name, &[rows, groups, group], move || Ok(integers.clone()));
    let scales = graph.weight(&format!("{name}/scale"), &[rows, groups, 1], move || Ok(scales.clone()));
    let integers = graph.node(&format!("{found}/integers"), "Gather", &[&integers, ids], &[]);
    let float = [Attribute::Int("to", DataType::Float as i64)];
    let floats = graph.node(&format!("{found}/floats"), "Cast", &[&integers], &float);
    let scale = graph.node(&format!("{found}/scale"), "Gather", &[&scales, ids], &[]);
    let scaled = graph.node(&format!("{found}/scaled"), "Mul", &[&floats, &scale], &[]);
    // 0 keeps a dimension: here, batch and sequence.
    let shape = graph.integers(&[0, 0, (groups * group) as i64], &[3]);
    graph.node(&found, "Reshape", &[&scaled, &shape], &[])
}
