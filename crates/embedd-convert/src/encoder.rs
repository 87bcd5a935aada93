//! One description of an encoder for all supported architectures. Lowering turns it into a graph.
//!
//! `architecture.rs` has the names of each architecture's tensors and settings.

use embedd_kernels::{Activation, Heads, NormKind, Reach};
use embedd_model::bundle::Pooling;

use super::source::Source;
use super::weights::{Tensor, Weights, WeightsError};

mod distances;
mod linear_input;
mod modules;
mod reader;
pub(crate) mod relative_position;

pub(crate) use distances::Distances;
pub(crate) use linear_input::{LinearInput, observed_output};
pub(crate) use modules::{Module, ModuleWeights};
use reader::Reader;

/// A transformer encoder, its pooling, and the modules after it.
#[derive(Debug)]
pub(crate) struct Encoder<'w> {
    /// The `model_type`.
    pub(crate) architecture: &'static str,
    /// Channels of a token's hidden state.
    pub(crate) hidden_size: usize,
    /// The heads of queries, keys and values.
    pub(crate) heads: Heads,
    /// The square of the number by which attention scores are divided.
    pub(crate) squared_divisor: usize,
    /// Maximum number of tokens of a text, including special tokens.
    pub(crate) position_limit: usize,
    pub(crate) embeddings: Embeddings<'w>,
    pub(crate) distances: Distances<'w>,
    /// The function in a feed-forward network.
    pub(crate) activation: Activation,
    /// In order, starting at the input.
    pub(crate) layers: Vec<Layer<'w>>,
    /// Normalizes the last layer's hidden states.
    pub(crate) final_norm: Option<Norm<'w>>,
    /// How the hidden states of the tokens become one vector.
    pub(crate) pooling: Pooling,
    /// Whether the tokens of a prompt are not pooled.
    pub(crate) excludes_prompts: bool,
    /// What happens to the pooled vector, in order.
    pub(crate) modules: Vec<Module<'w>>,
    /// The number of components that are kept; `None` keeps all.
    pub(crate) truncation: Option<usize>,
}

/// How token ids become the hidden states for the first layer: the sum of the tables' rows, then a norm, then a
/// projection, as far as there are such parts.
#[derive(Debug)]
pub(crate) struct Embeddings<'w> {
    /// `[vocabulary, width]`.
    pub(crate) words: Tensor<'w>,
    /// Multiplies the words' embeddings.
    pub(crate) scale: f32,
    pub(crate) positions: Option<Positions<'w>>,
    /// `[types, width]`; only row 0 is used, because all tokens are of the first type.
    pub(crate) token_types: Option<Tensor<'w>>,
    pub(crate) norm: Option<Norm<'w>>,
    /// `[hidden_size, width]`.
    pub(crate) projection: Option<Linear<'w>>,
}

/// Absolute position embeddings.
#[derive(Debug)]
pub(crate) struct Positions<'w> {
    /// `[positions, width]`.
    pub(crate) table: Tensor<'w>,
    /// `None`: token n uses row n. Otherwise the id of the padding token: the n-th token that is not padding, counted
    /// from 1, uses row `padding + n`; padding uses row `padding`.
    ///
    /// If a text contains the padding token, the token takes no position, as in the original implementation.
    pub(crate) padding: Option<usize>,
}

/// `weight x + bias`.
#[derive(Debug)]
pub(crate) struct Linear<'w> {
    /// `[out, in]`.
    pub(crate) weight: Tensor<'w>,
    /// `[out]`.
    pub(crate) bias: Option<Tensor<'w>>,
}

/// Normalization over a token's channels.
#[derive(Debug)]
pub(crate) struct Norm<'w> {
    pub(crate) kind: NormKind,
    /// `[channels]`.
    weight: Tensor<'w>,
    /// Whether 1 is added to the weight.
    plus_one: bool,
    /// `[channels]`.
    bias: Option<Tensor<'w>>,
    /// The value that is added to the variance.
    pub(crate) epsilon: f32,
}

/// One layer: attention, then a feed-forward network. The output of each is added to the hidden states.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are the parts of a transformer layer")]
pub(crate) struct Layer<'w> {
    pub(crate) query: Linear<'w>,
    pub(crate) key: Linear<'w>,
    pub(crate) value: Linear<'w>,
    /// Norms of each head's query and key.
    pub(crate) query_key_norms: Option<[Norm<'w>; 2]>,
    /// The base of the frequencies by which queries and keys are rotated; `None` if they are not.
    pub(crate) theta: Option<f32>,
    /// The keys that a query attends to.
    pub(crate) reach: Reach,
    pub(crate) attention_output: Linear<'w>,
    pub(crate) attention_norms: Norms<'w>,
    /// Its activation is multiplied by the output of `intermediate`; `None`: `intermediate` is activated.
    pub(crate) gate: Option<Linear<'w>>,
    pub(crate) intermediate: Linear<'w>,
    pub(crate) output: Linear<'w>,
    pub(crate) output_norms: Norms<'w>,
}

/// The norms around a sublayer.
#[derive(Debug)]
pub(crate) struct Norms<'w> {
    /// Of the sublayer's input.
    pub(crate) input: Option<Norm<'w>>,
    /// Of the sublayer's output, before it is added to the hidden states.
    pub(crate) output: Option<Norm<'w>>,
    /// Of the sum.
    pub(crate) sum: Option<Norm<'w>>,
}

/// Why a source cannot be described as an encoder.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// The configuration does not match the weights.
    #[error("{config} and {weights} disagree: {what}")]
    Disagreement {
        /// The config.json.
        config: std::path::PathBuf,
        /// The file with the weights.
        weights: std::path::PathBuf,
        /// The difference.
        what: String,
    },
    /// A tensor is missing or has the wrong shape or type.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl Embeddings<'_> {
    /// The embeddings of words, `[vocabulary, width]`.
    ///
    /// # Errors
    /// [`WeightsError`].
    pub(crate) fn word_rows(&self) -> Result<Vec<f32>, WeightsError> {
        let mut rows = self.words.read()?;
        if self.scale != 1.0 {
            rows.iter_mut().for_each(|value| *value *= self.scale);
        }
        Ok(rows)
    }

    /// What is added to the embeddings of words, `[positions, width]`: the position table with the first token type's
    /// row added. There is a single row if there is no position table.
    ///
    /// # Errors
    /// [`WeightsError`].
    pub(crate) fn position_rows(&self) -> Result<Vec<f32>, WeightsError> {
        let width = self.width();
        let mut rows = match &self.positions {
            Some(positions) => positions.table.read()?,
            None => vec![0.0; width],
        };
        if let Some(token_types) = &self.token_types {
            let types = token_types.read()?;
            for row in rows.chunks_exact_mut(width) {
                row.iter_mut().zip(&types[..width]).for_each(|(value, kind)| *value += kind);
            }
        }
        Ok(rows)
    }

    /// The shape of [`position_rows`](Self::position_rows).
    pub(crate) fn position_shape(&self) -> [usize; 2] {
        [self.positions.as_ref().map_or(1, |positions| positions.table.shape()[0]), self.width()]
    }

    /// Channels of an embedding.
    pub(crate) fn width(&self) -> usize {
        self.words.shape()[1]
    }
}

impl Linear<'_> {
    pub(crate) fn outputs(&self) -> usize {
        self.weight.shape()[0]
    }

    pub(crate) fn inputs(&self) -> usize {
        self.weight.shape()[1]
    }

    /// The bias, or zeros: `[out]`.
    ///
    /// # Errors
    /// [`WeightsError`].
    pub(crate) fn biases(&self) -> Result<Vec<f32>, WeightsError> {
        self.bias.as_ref().map_or_else(|| Ok(vec![0.0; self.outputs()]), Tensor::read)
    }
}

impl Norm<'_> {
    pub(crate) fn channels(&self) -> usize {
        self.weight.shape()[0]
    }

    /// `[channels]`
    ///
    /// # Errors
    /// [`WeightsError`].
    pub(crate) fn weights(&self) -> Result<Vec<f32>, WeightsError> {
        let mut weights = self.weight.read()?;
        if self.plus_one {
            weights.iter_mut().for_each(|weight| *weight += 1.0);
        }
        Ok(weights)
    }

    /// The bias, or zeros: `[channels]`.
    ///
    /// # Errors
    /// [`WeightsError`].
    pub(crate) fn biases(&self) -> Result<Vec<f32>, WeightsError> {
        self.bias.as_ref().map_or_else(|| Ok(vec![0.0; self.channels()]), Tensor::read)
    }
}

impl<'w> Encoder<'w> {
    /// Describes the source's encoder and checks that all its tensors exist with the right shapes.
    ///
    /// # Errors
    /// [`EncoderError`].
    pub(crate) fn describe(
        source: &Source,
        weights: &'w Weights,
        modules: &'w ModuleWeights,
    ) -> Result<Self, EncoderError> {
        let config = &source.config;
        let reader = Reader::new(source, weights);
        reader.check_layer_count()?;
        Ok(Self {
            architecture: config.architecture.model_type,
            hidden_size: config.hidden_size,
            heads: config.heads,
            squared_divisor: config.squared_divisor,
            position_limit: config.position_limit(),
            embeddings: reader.embeddings()?,
            distances: reader.distances()?,
            activation: config.activation,
            layers: (0..config.layers.len()).map(|index| reader.layer(index)).collect::<Result<_, _>>()?,
            final_norm: reader.final_norm()?,
            pooling: source.pooling.clone(),
            excludes_prompts: source.exclude_prompt,
            modules: modules.describe(&source.modules)?,
            truncation: source.truncation,
        })
    }

    /// The norms of hidden states, all of the same kind.
    pub(crate) fn norms(&self) -> impl Iterator<Item = &Norm<'w>> {
        let around = self.layers.iter().flat_map(|layer| [&layer.attention_norms, &layer.output_norms]);
        let layers = around.flat_map(|norms| [&norms.input, &norms.output, &norms.sum]);
        self.embeddings.norm.iter().chain(layers.flatten()).chain(&self.final_norm)
    }

    /// The number of components of a pooled vector, before the modules.
    pub(crate) fn pooled_width(&self) -> usize {
        self.pooling.modes().len() * self.hidden_size
    }

    /// The number of components of an embedding.
    pub(crate) fn width(&self) -> usize {
        let last = self.modules.iter().rev().find_map(Module::width);
        let whole = last.unwrap_or_else(|| self.pooled_width());
        self.truncation.map_or(whole, |components| components.min(whole))
    }

    /// Whether the values after the activation of feed-forward networks are never far below 0.
    pub(crate) fn is_half_bounded(&self) -> bool {
        let is_gated = self.layers.iter().any(|layer| layer.gate.is_some());
        !is_gated && matches!(self.activation, Activation::Gelu | Activation::GeluTanh | Activation::Relu)
    }

    /// The maximum distance between two tokens of a text.
    pub(crate) fn farthest(&self) -> usize {
        self.position_limit - 1
    }

    /// The distinct inputs of linear layers, in the order of their computation.
    pub(crate) fn linear_inputs(&self) -> Vec<(usize, LinearInput)> {
        let projection = self.embeddings.projection.iter().map(|_| (0, LinearInput::Projection));
        let layers = (0..self.layers.len()).flat_map(|layer| LinearInput::OF_LAYER.map(|input| (layer, input)));
        let modules = self.modules.iter().enumerate().filter(|(_, module)| module.dense().is_some());
        projection.chain(layers).chain(modules.map(|(index, _)| (index, LinearInput::Dense))).collect()
    }

    /// The linear layers with this input.
    pub(crate) fn linears(&self, (index, input): (usize, LinearInput)) -> Vec<&Linear<'w>> {
        let layer = || &self.layers[index];
        match input {
            LinearInput::Projection => self.embeddings.projection.iter().collect(),
            LinearInput::Attention => vec![&layer().query, &layer().key, &layer().value],
            LinearInput::AttentionOutput => vec![&layer().attention_output],
            LinearInput::Intermediate => layer().gate.iter().chain([&layer().intermediate]).collect(),
            LinearInput::Output => vec![&layer().output],
            LinearInput::Dense => self.modules[index].dense().into_iter().collect(),
        }
    }
}
