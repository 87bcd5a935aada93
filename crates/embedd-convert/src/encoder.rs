//! One description of an encoder for all supported architectures. Lowering turns it into a graph.
//!
//! `architecture.rs` has the names of each architecture's tensors and settings.

use embedd_kernels::Activation;
use embedd_model::bundle::Pooling;

use super::architecture::TensorNames;
use super::source::{ModelConfig, Source};
use super::weights::{Tensor, Weights, WeightsError};

mod linear_input;
pub(crate) mod relative_position;

pub(crate) use linear_input::{LinearInput, observed_output};
use relative_position::bucket;

/// The buckets of MPNet's attention bias. The original implementation has this number whatever the configuration says.
const BUCKETS: usize = 32;

/// A transformer encoder with post-layer normalization, and its pooling.
#[derive(Debug)]
pub(crate) struct Encoder<'w> {
    /// The `model_type`.
    pub(crate) architecture: &'static str,
    /// Channels of a token's hidden state.
    pub(crate) hidden_size: usize,
    /// Attention heads of `hidden_size / heads` channels each.
    pub(crate) heads: usize,
    /// Maximum number of tokens that the position embeddings allow, including special tokens.
    pub(crate) position_limit: usize,
    /// Epsilon of all layer norms.
    pub(crate) layer_norm_eps: f32,
    pub(crate) embeddings: Embeddings<'w>,
    /// The relative position bias, if the architecture has one.
    pub(crate) relative_attention: Option<RelativeAttention<'w>>,
    /// The function between the two linear layers of a feed-forward network.
    pub(crate) activation: Activation,
    /// In order, starting at the input.
    pub(crate) layers: Vec<Layer<'w>>,
    /// How the hidden states of the tokens become one vector.
    pub(crate) pooling: Pooling,
}

/// How token ids become the hidden states for the first layer: the sum of the tables' rows, then a layer norm, then a
/// projection if there is one.
#[derive(Debug)]
pub(crate) struct Embeddings<'w> {
    /// `[vocabulary, width]`.
    pub(crate) words: Tensor<'w>,
    pub(crate) positions: Positions<'w>,
    /// `[types, width]`; only row 0 is used, because all tokens are of the first type.
    pub(crate) token_types: Option<Tensor<'w>>,
    pub(crate) norm: LayerNorm<'w>,
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

/// A bias of the attention scores that depends on the distance between two tokens.
#[derive(Debug)]
pub(crate) struct RelativeAttention<'w> {
    /// `[buckets, heads]`.
    pub(crate) table: Tensor<'w>,
    /// Number of buckets: distance ranges that share a row.
    pub(crate) buckets: usize,
}

/// `weight x + bias`.
#[derive(Debug)]
pub(crate) struct Linear<'w> {
    /// `[out, in]`.
    pub(crate) weight: Tensor<'w>,
    /// `[out]`.
    pub(crate) bias: Tensor<'w>,
}

/// Layer norm over a token's channels.
#[derive(Debug)]
pub(crate) struct LayerNorm<'w> {
    /// `[hidden_size]`.
    pub(crate) weight: Tensor<'w>,
    /// `[hidden_size]`.
    pub(crate) bias: Tensor<'w>,
}

/// One layer: attention, then a feed-forward network; each followed by a residual and a layer norm.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are the parts of a transformer layer")]
pub(crate) struct Layer<'w> {
    pub(crate) query: Linear<'w>,
    pub(crate) key: Linear<'w>,
    pub(crate) value: Linear<'w>,
    pub(crate) attention_output: Linear<'w>,
    pub(crate) attention_norm: LayerNorm<'w>,
    pub(crate) intermediate: Linear<'w>,
    pub(crate) output: Linear<'w>,
    pub(crate) output_norm: LayerNorm<'w>,
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
    /// The values of the position table, `[positions, width]`, with the first token type's row added.
    ///
    /// # Errors
    /// [`WeightsError`].
    pub(crate) fn position_rows(&self) -> Result<Vec<f32>, WeightsError> {
        let mut rows = self.positions.table.read()?;
        if let Some(token_types) = &self.token_types {
            let types = token_types.read()?;
            let width = self.width();
            for row in rows.chunks_exact_mut(width) {
                row.iter_mut().zip(&types[..width]).for_each(|(value, kind)| *value += kind);
            }
        }
        Ok(rows)
    }

    /// Channels of an embedding.
    pub(crate) fn width(&self) -> usize {
        self.words.shape()[1]
    }
}

impl RelativeAttention<'_> {
    /// Row-major `[heads, 2 * farthest + 1]`: column `c` is for keys at distance `c - farthest`.
    ///
    /// # Errors
    /// [`WeightsError`].
    pub(crate) fn by_distance(&self, farthest: usize) -> Result<Vec<f32>, WeightsError> {
        let table = self.table.read()?;
        let heads = self.table.shape()[1];
        let farthest = farthest as i32;
        let columns: Vec<usize> = (-farthest..=farthest).map(|distance| bucket(distance, self.buckets)).collect();
        Ok((0..heads)
            .flat_map(|head| columns.iter().map(move |row| (row, head)))
            .map(|(row, head)| table[row * heads + head])
            .collect())
    }
}

impl<'w> Encoder<'w> {
    /// Describes the source's encoder and checks that all its tensors exist with the right shapes.
    ///
    /// # Errors
    /// [`EncoderError`].
    pub(crate) fn describe(source: &Source, weights: &'w Weights) -> Result<Self, EncoderError> {
        let config = &source.config;
        let reader = Reader::new(source, weights);
        reader.check_layer_count()?;
        Ok(Self {
            architecture: config.architecture.model_type,
            hidden_size: config.hidden_size,
            heads: config.heads,
            position_limit: config.positions - config.padding.map_or(0, |padding| padding + 1),
            layer_norm_eps: config.layer_norm_eps,
            embeddings: reader.embeddings()?,
            relative_attention: reader.relative_attention()?,
            activation: config.activation,
            layers: (0..config.layers).map(|index| reader.layer(index)).collect::<Result<_, _>>()?,
            pooling: source.pooling.clone(),
        })
    }

    /// The number of components of an embedding.
    pub(crate) fn width(&self) -> usize {
        self.pooling.modes().len() * self.hidden_size
    }

    /// The maximum distance between two tokens of a text.
    pub(crate) fn farthest(&self) -> usize {
        self.position_limit - 1
    }

    /// The distinct inputs of linear layers, in the order of their computation.
    pub(crate) fn linear_inputs(&self) -> Vec<(usize, LinearInput)> {
        let projection = self.embeddings.projection.iter().map(|_| (0, LinearInput::Projection));
        let layers = (0..self.layers.len()).flat_map(|layer| LinearInput::OF_LAYER.map(|input| (layer, input)));
        projection.chain(layers).collect()
    }

    /// The linear layers with this input.
    pub(crate) fn linears(&self, (layer, input): (usize, LinearInput)) -> Vec<&Linear<'w>> {
        let layer = &self.layers[layer];
        match input {
            LinearInput::Projection => self.embeddings.projection.iter().collect(),
            LinearInput::Attention => vec![&layer.query, &layer.key, &layer.value],
            LinearInput::AttentionOutput => vec![&layer.attention_output],
            LinearInput::Intermediate => vec![&layer.intermediate],
            LinearInput::Output => vec![&layer.output],
        }
    }
}

/// Finds tensors under the prefix that the file uses.
struct Reader<'s, 'w> {
    source: &'s Source,
    config: &'s ModelConfig,
    names: &'static TensorNames,
    weights: &'w Weights,
    /// The names of an encoder's tensors have a prefix such as `bert.` if the checkpoint is that of a larger model.
    prefix: String,
}

impl<'s, 'w> Reader<'s, 'w> {
    fn new(source: &'s Source, weights: &'w Weights) -> Self {
        let marker = "embeddings.word_embeddings.weight";
        let prefix = weights
            .names()
            .into_iter()
            .filter_map(|name| name.strip_suffix(marker).map(str::to_owned))
            .min_by_key(String::len)
            .unwrap_or_default();
        let config = &source.config;
        Self { source, config, names: &config.architecture.tensors, weights, prefix }
    }

    fn tensor(&self, name: &str, shape: &[usize], because: &str) -> Result<Tensor<'w>, WeightsError> {
        self.weights.tensor(&format!("{}{name}", self.prefix), shape, &format!("{because} in config.json"))
    }

    fn linear(&self, name: &str, output: usize, input: usize) -> Result<Linear<'w>, WeightsError> {
        let settings = &self.config.architecture.settings;
        let because = format!("{} or {}", settings.hidden_size.0, settings.intermediate_size.0);
        Ok(Linear {
            weight: self.tensor(&format!("{name}.weight"), &[output, input], &because)?,
            bias: self.tensor(&format!("{name}.bias"), &[output], &because)?,
        })
    }

    fn layer_norm(&self, name: &str, width: usize) -> Result<LayerNorm<'w>, WeightsError> {
        let because = self.config.architecture.settings.hidden_size.0;
        Ok(LayerNorm {
            weight: self.tensor(&format!("{name}.weight"), &[width], because)?,
            bias: self.tensor(&format!("{name}.bias"), &[width], because)?,
        })
    }

    fn embeddings(&self) -> Result<Embeddings<'w>, WeightsError> {
        let config = self.config;
        let width = config.embedding_size;
        let table = |name: &str, rows: usize, because: &str| {
            let because = format!("{because} and {}", config.architecture.settings.hidden_size.0);
            self.tensor(name, &[rows, width], &because)
        };
        let token_types = self.names.token_types.filter(|_| config.token_types > 0);
        let projection = self.names.projection.filter(|_| width != config.hidden_size);
        Ok(Embeddings {
            words: table("embeddings.word_embeddings.weight", config.vocab_size, "vocab_size")?,
            positions: Positions {
                table: table("embeddings.position_embeddings.weight", config.positions, "max_position_embeddings")?,
                padding: config.padding,
            },
            token_types: token_types.map(|name| table(name, config.token_types, "type_vocab_size")).transpose()?,
            norm: self.layer_norm("embeddings.LayerNorm", width)?,
            projection: projection.map(|name| self.linear(name, config.hidden_size, width)).transpose()?,
        })
    }

    fn relative_attention(&self) -> Result<Option<RelativeAttention<'w>>, WeightsError> {
        let Some(name) = self.names.relative_bias else { return Ok(None) };
        let table = self.tensor(name, &[BUCKETS, self.config.heads], self.config.architecture.settings.heads.0)?;
        Ok(Some(RelativeAttention { table, buckets: BUCKETS }))
    }

    fn layer(&self, index: usize) -> Result<Layer<'w>, WeightsError> {
        let names = self.names;
        let hidden = self.config.hidden_size;
        let inner = self.config.intermediate_size;
        let linear = |part, output, input| self.linear(&format!("{}.{index}.{part}", names.layer), output, input);
        let norm = |part| self.layer_norm(&format!("{}.{index}.{part}", names.layer), hidden);
        Ok(Layer {
            query: linear(names.query, hidden, hidden)?,
            key: linear(names.key, hidden, hidden)?,
            value: linear(names.value, hidden, hidden)?,
            attention_output: linear(names.attention_output, hidden, hidden)?,
            attention_norm: norm(names.attention_norm)?,
            intermediate: linear(names.intermediate, inner, hidden)?,
            output: linear(names.output, hidden, inner)?,
            output_norm: norm(names.output_norm)?,
        })
    }

    /// Rejects weights with more layers than the configuration. Ignoring the extra layers would silently give a
    /// different model.
    fn check_layer_count(&self) -> Result<(), EncoderError> {
        let start = format!("{}{}.", self.prefix, self.names.layer);
        let highest = self
            .weights
            .names()
            .iter()
            .filter_map(|name| name.strip_prefix(&start)?.split('.').next()?.parse::<usize>().ok())
            .max();
        let in_weights = highest.map_or(0, |highest| highest.saturating_add(1));
        let in_config = self.config.layers;
        if in_weights > in_config {
            let field = self.config.architecture.settings.layers.0;
            return Err(EncoderError::Disagreement {
                config: self.source.path("config.json"),
                weights: self.weights.path().to_owned(),
                what: format!("{field} is {in_config}, but the weights have {in_weights} layers"),
            });
        }
        Ok(())
    }
}
