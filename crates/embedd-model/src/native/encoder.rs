//! The forward pass of the native encoder.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::plan::{EmbeddingsPlan, LinearPlan, Plan, tensor};
use super::weights::{NativeWeights, Tensor, WeightsError};
use crate::bundle::PoolingMode;
use embedd_kernels::{
    AttentionInput, DistanceBias, EmbeddingTables, Epilogue, InvalidWeights, Kernels, LayerNorm, LinearWeights,
    Offsets, Parallel, PoolingRule, PositionRule, Scratch, TokenOutOfRange,
};

/// Sizes that a plan may have. Products of two of them do not overflow.
const SIZES: RangeInclusive<usize> = 1..=1 << 24;

/// A plan whose weights have been found. The texts of a batch are concatenated, not padded.
#[derive(Debug)]
pub struct Encoder {
    weights: Arc<NativeWeights>,
    plan: Plan,
    embeddings: Embeddings,
    bias: Option<Tensor<f32>>,
    layers: Vec<Layer>,
    pooling: Vec<PoolingRule>,
}

#[derive(Debug)]
struct Embeddings {
    words: Tensor<i8>,
    word_scales: Tensor<f32>,
    positions: Tensor<f32>,
    norm: Norm,
    projection: Option<Linear>,
}

#[derive(Debug)]
struct Layer {
    qkv: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
}

#[derive(Debug)]
struct Linear {
    plan: LinearPlan,
    weight: Tensor<i8>,
    scale: Tensor<f32>,
    bias: Tensor<f32>,
}

#[derive(Debug)]
struct Norm {
    weight: Tensor<f32>,
    bias: Tensor<f32>,
}

/// The memory of a forward pass, reused between batches. It grows to fit the largest batch.
#[derive(Debug, Default)]
pub struct Buffers {
    states: Vec<f32>,
    attended: Vec<f32>,
    middle: Vec<f32>,
    /// Queries, keys and values; then the channels around the activation.
    wide: Vec<f32>,
    scratch: Scratch,
}

/// Why a plan cannot be computed with these weights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is the error of one check")]
pub enum EncoderError {
    #[error("invalid plan: {0}")]
    Plan(String),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Linear(#[from] InvalidWeights),
}

/// Why a batch cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages explain the fields")]
pub enum ForwardError {
    #[error(transparent)]
    Token(#[from] TokenOutOfRange),
    #[error("a text has {tokens} tokens; the maximum for the attention bias is {max}")]
    TooLong { tokens: usize, max: usize },
}

impl Encoder {
    /// Finds the plan's tensors in the weights.
    ///
    /// # Errors
    /// [`EncoderError`].
    pub fn new(plan: Plan, weights: Arc<NativeWeights>) -> Result<Self, EncoderError> {
        check(&plan)?;
        let find = Finder { weights: &weights };
        let embeddings = find.embeddings(&plan.embeddings)?;
        let layers = (0..plan.layers.len()).map(|index| find.layer(&plan, index)).collect::<Result<_, _>>()?;
        let bias = plan.farthest.map(|farthest| {
            let shape = [plan.heads, 2 * farthest + 1];
            weights.expect(tensor::RELATIVE_ATTENTION_BIAS, &shape)
        });
        Ok(Self {
            embeddings,
            bias: bias.transpose()?,
            layers,
            pooling: plan.pooling.modes().iter().copied().map(rule).collect(),
            plan,
            weights,
        })
    }

    /// The number of components of an embedding.
    pub fn width(&self) -> usize {
        self.pooling.len() * self.plan.hidden
    }

    /// Computes the pooled, unnormalized embeddings. `ids` are the concatenated token ids of the texts; `pooled` is
    /// float32 `[texts, width]`.
    ///
    /// # Errors
    /// [`ForwardError`].
    ///
    /// # Panics
    /// If a slice does not have its documented shape.
    pub fn forward(
        &self,
        kernels: Kernels,
        parallel: &dyn Parallel,
        ids: &[i64],
        offsets: &Offsets,
        buffers: &mut Buffers,
        pooled: &mut [f32],
    ) -> Result<(), ForwardError> {
        self.check_lengths(offsets)?;
        let Buffers { states, attended, middle, wide, scratch } = buffers;
        let tokens = ids.len();
        let states = grow_to(states, tokens * self.plan.hidden);
        let attended = grow_to(attended, tokens * self.plan.hidden);
        let middle = grow_to(middle, tokens * self.plan.hidden);
        let mut linear = |layer: &Linear, input: &[f32], epilogue: Epilogue<'_>, output: &mut [f32]| {
            kernels.linear(parallel, input, &layer.weights(&self.weights), epilogue, scratch, output);
        };

        match &self.embeddings.projection {
            None => kernels.embed(parallel, ids, offsets, &self.tables(), states)?,
            Some(projection) => {
                let embedded = grow_to(wide, tokens * self.plan.embeddings.width);
                kernels.embed(parallel, ids, offsets, &self.tables(), embedded)?;
                linear(projection, embedded, Epilogue::None, states);
            }
        }
        for layer in &self.layers {
            let qkv = grow_to(wide, tokens * layer.qkv.plan.outputs);
            linear(&layer.qkv, states, Epilogue::None, qkv);
            let attention = AttentionInput { qkv, heads: self.plan.heads, bias: self.distance_bias() };
            kernels.attention(parallel, &attention, offsets, attended);
            let norm = Epilogue::ResidualNorm { residual: states, norm: self.norm(&layer.attention_norm) };
            linear(&layer.attention_output, attended, norm, middle);

            let inner = grow_to(wide, tokens * layer.intermediate.plan.outputs);
            linear(&layer.intermediate, middle, Epilogue::Activation(self.plan.activation), inner);
            let norm = Epilogue::ResidualNorm { residual: middle, norm: self.norm(&layer.output_norm) };
            linear(&layer.output, inner, norm, states);
        }
        kernels.pool(states, offsets, &self.pooling, pooled);
        Ok(())
    }

    fn check_lengths(&self, offsets: &Offsets) -> Result<(), ForwardError> {
        let Some(farthest) = self.plan.farthest else { return Ok(()) };
        let tokens = offsets.texts().map(|text| text.len()).max().unwrap_or(0);
        let max = farthest + 1;
        if tokens <= max { Ok(()) } else { Err(ForwardError::TooLong { tokens, max }) }
    }

    fn tables(&self) -> EmbeddingTables<'_> {
        let Embeddings { words, word_scales, positions, norm, .. } = &self.embeddings;
        EmbeddingTables {
            words: self.weights.get(words),
            word_scales: self.weights.get(word_scales),
            word_group: self.plan.embeddings.word_group,
            positions: self.weights.get(positions),
            position_rule: self
                .plan
                .embeddings
                .padding
                .map_or(PositionRule::Sequential, |padding| PositionRule::SkippingPadding { padding }),
            norm: self.norm(norm),
        }
    }

    fn distance_bias(&self) -> Option<DistanceBias<'_>> {
        let table = self.weights.get(self.bias.as_ref()?);
        Some(DistanceBias { table, farthest: self.plan.farthest? })
    }

    fn norm(&self, norm: &Norm) -> LayerNorm<'_> {
        LayerNorm {
            weight: self.weights.get(&norm.weight),
            bias: self.weights.get(&norm.bias),
            epsilon: self.plan.epsilon,
        }
    }
}

impl Linear {
    fn weights<'w>(&self, weights: &'w NativeWeights) -> LinearWeights<'w> {
        self.try_weights(weights).expect("the shapes were checked when the tensors were found")
    }

    fn try_weights<'w>(&self, weights: &'w NativeWeights) -> Result<LinearWeights<'w>, InvalidWeights> {
        let integers = weights.get(&self.weight);
        let scale = weights.get(&self.scale);
        let bias = weights.get(&self.bias);
        LinearWeights::new(self.plan.layout(), self.plan.outputs, integers, scale, bias)
    }
}

/// Finds tensors by name, and checks their shapes.
struct Finder<'w> {
    weights: &'w NativeWeights,
}

impl Finder<'_> {
    fn embeddings(&self, plan: &EmbeddingsPlan) -> Result<Embeddings, EncoderError> {
        let words = self.weights.matrix(tensor::WORD_EMBEDDINGS, Some(plan.width))?;
        let scales = [words.shape()[0], plan.width.div_ceil(plan.word_group)];
        let projection = plan.projection.map(|projection| self.linear(tensor::PROJECTION, projection));
        Ok(Embeddings {
            words,
            word_scales: self.weights.expect(tensor::WORD_SCALES, &scales)?,
            positions: self.weights.matrix(tensor::POSITION_EMBEDDINGS, Some(plan.width))?,
            norm: self.norm(tensor::EMBEDDINGS, plan.width)?,
            projection: projection.transpose()?,
        })
    }

    fn layer(&self, plan: &Plan, index: usize) -> Result<Layer, EncoderError> {
        let [qkv, attention_output, intermediate, output] = tensor::layer(index);
        let layer = &plan.layers[index];
        Ok(Layer {
            qkv: self.linear(&qkv, layer.qkv)?,
            attention_output: self.linear(&attention_output, layer.attention_output)?,
            attention_norm: self.norm(&attention_output, plan.hidden)?,
            intermediate: self.linear(&intermediate, layer.intermediate)?,
            output: self.linear(&output, layer.output)?,
            output_norm: self.norm(&output, plan.hidden)?,
        })
    }

    fn linear(&self, prefix: &str, plan: LinearPlan) -> Result<Linear, EncoderError> {
        let shapes = plan.layout().packed_shapes(plan.outputs);
        let linear = Linear {
            plan,
            weight: self.weights.expect(&tensor::of(prefix, tensor::WEIGHT), &shapes.weights)?,
            scale: self.weights.expect(&tensor::of(prefix, tensor::SCALE), &shapes.scales)?,
            bias: self.weights.expect(&tensor::of(prefix, tensor::BIAS), &shapes.bias)?,
        };
        linear.try_weights(self.weights)?;
        Ok(linear)
    }

    fn norm(&self, prefix: &str, channels: usize) -> Result<Norm, WeightsError> {
        Ok(Norm {
            weight: self.weights.expect(&tensor::of(prefix, tensor::NORM_WEIGHT), &[channels])?,
            bias: self.weights.expect(&tensor::of(prefix, tensor::NORM_BIAS), &[channels])?,
        })
    }
}

/// Checks what the shapes of the tensors do not: a plan is as untrusted as any other file.
fn check(plan: &Plan) -> Result<(), EncoderError> {
    let failed = |reason: String| Err(EncoderError::Plan(reason));
    let Plan { hidden, heads, embeddings, .. } = plan;
    let sizes = [*hidden, embeddings.width, embeddings.word_group, plan.farthest.unwrap_or(1)];
    if let Some(size) = sizes.into_iter().find(|size| !SIZES.contains(size)) {
        return failed(format!("a size of {size} is outside the range of 1 to {}", SIZES.end()));
    }
    if *heads == 0 || !hidden.is_multiple_of(*heads) {
        return failed(format!("{hidden} channels cannot be divided among {heads} heads"));
    }
    let mut linears = vec![];
    match embeddings.projection {
        Some(projection) => linears.push(("the projection", projection, embeddings.width, Some(*hidden))),
        None if embeddings.width != *hidden => {
            return failed(format!("embeddings of {} channels need a projection to {hidden}", embeddings.width));
        }
        None => {}
    }
    for layer in &plan.layers {
        linears.extend([
            ("qkv", layer.qkv, *hidden, Some(3 * hidden)),
            ("attention_output", layer.attention_output, *hidden, Some(*hidden)),
            ("intermediate", layer.intermediate, *hidden, None),
            ("output", layer.output, layer.intermediate.outputs, Some(*hidden)),
        ]);
    }
    for (name, linear, inputs, outputs) in linears {
        let fits = linear.inputs == inputs && outputs.is_none_or(|outputs| linear.outputs == outputs);
        let sizes = [linear.inputs, linear.outputs, linear.group].iter().all(|size| SIZES.contains(size));
        if !fits || !sizes || linear.split > linear.inputs {
            return failed(format!("{name} is {linear:?}, but its input has {inputs} channels"));
        }
    }
    Ok(())
}

fn rule(mode: PoolingMode) -> PoolingRule {
    match mode {
        PoolingMode::Mean => PoolingRule::Mean,
        PoolingMode::MeanSqrtLen => PoolingRule::MeanSqrtLen,
        PoolingMode::WeightedMean => PoolingRule::WeightedMean,
        PoolingMode::Max => PoolingRule::Max,
        PoolingMode::Cls => PoolingRule::First,
        PoolingMode::LastToken => PoolingRule::Last,
    }
}

/// The first `length` floats of `memory`, which grows if necessary. Existing floats are not cleared.
fn grow_to(memory: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if memory.len() < length {
        memory.resize(length, 0.0);
    }
    &mut memory[..length]
}
