//! The forward pass of the native encoder.

use std::mem;
use std::sync::Arc;

use super::plan::Plan;
use super::weights::{NativeWeights, WeightsError};
use embedd_kernels::{
    AttentionInput, DisentangledTables, Distances, EmbeddingTables, HeadTransform, InvalidWeights, Kernels, Offsets,
    Parallel, PoolingRule, Rotations, Scratch, TokenOutOfRange,
};

mod check;
mod parts;

use parts::{Embeddings, FoundDistances, Layer, Linear, Module, Norm, Norms};

/// A plan whose weights have been found. The texts of a batch are concatenated, not padded.
#[derive(Debug)]
pub struct Encoder {
    weights: Arc<NativeWeights>,
    plan: Plan,
    embeddings: Embeddings,
    distances: FoundDistances,
    /// The distinct bases of the rotations' frequencies.
    thetas: Vec<f32>,
    layers: Vec<Layer>,
    final_norm: Option<Norm>,
    pooling: Vec<PoolingRule>,
    modules: Vec<Module>,
}

/// The memory of a forward pass, reused between batches. It grows to fit the largest batch.
#[derive(Debug, Default)]
pub struct Buffers {
    states: Vec<f32>,
    /// The normalized input of a sublayer, then its output.
    branch: Vec<f32>,
    attended: Vec<f32>,
    /// Queries, keys and values; then the channels around the activation.
    wide: Vec<f32>,
    gated: Vec<f32>,
    vectors: [Vec<f32>; 2],
    rotations: Vec<Rotations>,
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
    #[error("a text has {tokens} tokens; the maximum for the attention's distances is {max}")]
    TooLong { tokens: usize, max: usize },
}

/// A batch, and the means to compute it.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// The instructions to use.
    pub kernels: Kernels,
    /// The threads to use.
    pub parallel: &'a dyn Parallel,
    /// The concatenated token ids of the texts.
    pub ids: &'a [i64],
    /// Where each text begins.
    pub offsets: &'a Offsets,
    /// The number of tokens at the start of each text that pooling excludes.
    pub excluded: &'a [usize],
}

impl Encoder {
    /// Finds the plan's tensors in the weights.
    ///
    /// # Errors
    /// [`EncoderError`].
    pub fn new(plan: Plan, weights: Arc<NativeWeights>) -> Result<Self, EncoderError> {
        check::check(&plan)?;
        parts::find(plan, weights)
    }

    /// The number of components of an embedding.
    pub fn width(&self) -> usize {
        self.modules.iter().rev().find_map(Module::width).unwrap_or_else(|| self.pooled_width())
    }

    fn pooled_width(&self) -> usize {
        self.pooling.len() * self.plan.hidden
    }

    /// Computes the unnormalized embeddings, float32 `[texts, width]`.
    ///
    /// # Errors
    /// [`ForwardError`].
    ///
    /// # Panics
    /// If a slice does not have its documented shape.
    pub fn forward(
        &self,
        batch: &Batch<'_>,
        buffers: &mut Buffers,
        embeddings: &mut [f32],
    ) -> Result<(), ForwardError> {
        let Batch { kernels, parallel, ids, offsets, excluded } = *batch;
        let longest = self.check_lengths(offsets)?;
        let Buffers { states, branch, attended, wide, gated, vectors, rotations, scratch } = buffers;
        self.extend(rotations, longest);
        let tokens = ids.len();
        let plan = &self.plan;
        let mut states = grow_to(states, tokens * plan.hidden);
        let mut branch = grow_to(branch, tokens * plan.hidden);
        let attended = grow_to(attended, tokens * plan.heads.output());
        let linear = |layer: &Linear, input: &[f32], scratch: &mut Scratch, output: &mut [f32]| {
            kernels.linear(parallel, input, &layer.weights(&self.weights), layer.activation, scratch, output);
        };

        match &self.embeddings.projection {
            None => kernels.embed(parallel, ids, offsets, &self.tables(), states)?,
            Some(projection) => {
                let embedded = grow_to(wide, tokens * plan.embeddings.width);
                kernels.embed(parallel, ids, offsets, &self.tables(), embedded)?;
                linear(projection, embedded, scratch, states);
            }
        }
        for layer in &self.layers {
            let input = self.sublayer_input(batch, &layer.attention_norms, states, branch);
            let qkv = grow_to(wide, tokens * plan.heads.row());
            linear(&layer.qkv, input, scratch, qkv);
            if let Some(transform) = self.transform(layer, rotations) {
                kernels.transform_heads(parallel, &transform, offsets, qkv);
            }
            kernels.attention(parallel, &self.attention_input(layer, qkv), offsets, attended);
            linear(&layer.attention_output, attended, scratch, branch);
            self.add(batch, &layer.attention_norms, &mut states, &mut branch);

            let input = self.sublayer_input(batch, &layer.output_norms, states, branch);
            let inner = grow_to(wide, tokens * layer.intermediate.plan.outputs);
            if plan.gated {
                linear(&layer.intermediate, input, scratch, inner);
                let channels = layer.output.plan.inputs;
                let gated = grow_to(gated, tokens * channels);
                kernels.gate(parallel, plan.activation, inner, channels, gated);
                linear(&layer.output, gated, scratch, branch);
            } else {
                let [first, second] = [&layer.intermediate, &layer.output].map(|layer| layer.weights(&self.weights));
                let activation = layer.intermediate.activation;
                let second = kernels.first_linear(parallel, input, [&first, &second], activation, scratch, inner);
                second.linear(parallel, branch);
            }
            self.add(batch, &layer.output_norms, &mut states, &mut branch);
        }
        if let Some(norm) = &self.final_norm {
            kernels.norm_in_place(parallel, norm.of(&self.weights), states);
        }
        let texts = offsets.texts().len();
        let mut width = self.pooled_width();
        let [vectors, next] = vectors;
        kernels.pool(states, offsets, excluded, &self.pooling, grow_to(vectors, texts * width));
        for module in &self.modules {
            let input = &mut vectors[..texts * width];
            match module {
                Module::Norm(norm) => kernels.norm_in_place(parallel, norm.of(&self.weights), input),
                Module::Dense(layer) => {
                    width = layer.plan.outputs;
                    linear(layer, input, scratch, grow_to(next, texts * width));
                    mem::swap(vectors, next);
                }
            }
        }
        embeddings.copy_from_slice(&vectors[..texts * width]);
        Ok(())
    }

    /// The number of tokens of the longest text.
    fn check_lengths(&self, offsets: &Offsets) -> Result<usize, ForwardError> {
        let tokens = offsets.texts().map(|text| text.len()).max().unwrap_or(0);
        let max = self.distances.limit();
        if tokens <= max { Ok(tokens) } else { Err(ForwardError::TooLong { tokens, max }) }
    }

    /// Makes sure that there are rotations for this many positions.
    fn extend(&self, rotations: &mut Vec<Rotations>, positions: usize) {
        let missing = self.thetas.iter().skip(rotations.len());
        rotations.extend(missing.map(|&theta| Rotations::new(theta, self.plan.heads.size)));
        rotations.iter_mut().for_each(|rotations| rotations.extend_to(positions));
    }

    fn tables(&self) -> EmbeddingTables<'_> {
        let Embeddings { words, word_scales, positions, norm, .. } = &self.embeddings;
        EmbeddingTables {
            words: self.weights.get(words),
            word_scales: self.weights.get(word_scales),
            word_group: self.plan.embeddings.word_group,
            positions: self.weights.get(positions),
            position_rule: self.plan.embeddings.positions,
            channels: self.plan.embeddings.width,
            norm: norm.as_ref().map(|norm| norm.of(&self.weights)),
        }
    }

    /// The input of a sublayer: the hidden states, or their norm in `branch`.
    fn sublayer_input<'b>(
        &self,
        batch: &Batch<'_>,
        norms: &Norms,
        states: &'b [f32],
        branch: &'b mut [f32],
    ) -> &'b [f32] {
        let Some(norm) = &norms.input else { return states };
        batch.kernels.norm(batch.parallel, states, norm.of(&self.weights), branch);
        branch
    }

    /// Adds a sublayer's output in `branch` to the hidden states. `branch` then has no meaning.
    fn add<'b>(&self, batch: &Batch<'_>, norms: &Norms, states: &mut &'b mut [f32], branch: &mut &'b mut [f32]) {
        let Batch { kernels, parallel, .. } = *batch;
        if let Some(norm) = &norms.output {
            kernels.norm_in_place(parallel, norm.of(&self.weights), branch);
        }
        match &norms.sum {
            None => kernels.add(parallel, branch, states),
            Some(norm) => {
                kernels.residual_norm(parallel, states, norm.of(&self.weights), branch);
                mem::swap(states, branch);
            }
        }
    }

    fn transform<'e>(&'e self, layer: &Layer, rotations: &'e [Rotations]) -> Option<HeadTransform<'e>> {
        let norms = layer.query_key_norms.as_ref();
        let norms = norms.map(|norms| norms.each_ref().map(|norm| norm.of(&self.weights)));
        let rotations = layer.rotations.map(|index| &rotations[index]);
        let is_needed = norms.is_some() || rotations.is_some();
        is_needed.then_some(HeadTransform { heads: self.plan.heads, norms, rotations })
    }

    fn attention_input<'e>(&'e self, layer: &'e Layer, qkv: &'e [f32]) -> AttentionInput<'e> {
        let distances = match &self.distances {
            FoundDistances::None => Distances::None,
            FoundDistances::Bias { table, farthest } => {
                Distances::Bias { table: self.weights.get(table), farthest: *farthest }
            }
            FoundDistances::Disentangled { by_distance } => {
                let table = |index: usize| layer.distances[index].as_ref();
                let [keys, queries] = [0, 1].map(|index| table(index).map_or(&[][..], |table| self.weights.get(table)));
                Distances::Disentangled(DisentangledTables { keys, queries, rows: by_distance })
            }
        };
        AttentionInput {
            qkv,
            heads: self.plan.heads,
            squared_divisor: self.plan.squared_divisor as f32,
            reach: layer.reach,
            distances,
        }
    }
}

/// The first `length` floats of `memory`, which grows if necessary. Existing floats are not cleared.
fn grow_to(memory: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if memory.len() < length {
        memory.resize(length, 0.0);
    }
    &mut memory[..length]
}
