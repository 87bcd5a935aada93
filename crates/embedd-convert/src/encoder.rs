//! One description of an encoder for all supported architectures. Lowering turns it into a graph.
//!
//! Each architecture maps its tensor names to this description.

use embedd_model::bundle::Pooling;

use super::source::Source;
use super::weights::{Tensor, Weights, WeightsError};

mod bert;
mod linear_input;
mod mpnet;
pub(crate) mod relative_position;

pub(crate) use linear_input::{LinearInput, observed_output};
use relative_position::bucket;

/// The supported values of `model_type`.
pub(crate) const ARCHITECTURES: [&str; 2] = ["mpnet", "bert"];

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
    /// Float32 `[vocabulary, hidden_size]`.
    pub(crate) word_embeddings: Tensor<'w>,
    pub(crate) positions: Positions<'w>,
    /// Applied to the sum of the embeddings.
    pub(crate) embedding_norm: LayerNorm<'w>,
    /// The relative position bias, if the architecture has one.
    pub(crate) relative_attention: Option<RelativeAttention<'w>>,
    /// In order, starting at the input.
    pub(crate) layers: Vec<Layer<'w>>,
    /// How the hidden states of the tokens become one vector.
    pub(crate) pooling: Pooling,
}

/// Absolute position embeddings.
#[derive(Debug)]
pub(crate) enum Positions<'w> {
    /// Token n uses row n. The first row of `token_types` is added to each (all tokens are of the first type).
    Sequential {
        /// `[positions, hidden_size]`.
        table: Tensor<'w>,
        /// `[types, hidden_size]`; only row 0 is used.
        token_types: Tensor<'w>,
    },
    /// The n-th token that is not padding, counted from 1, uses row `padding + n`; padding uses row `padding`.
    ///
    /// If a text contains the padding token, the token takes no position, as in the original implementation.
    SkippingPadding {
        /// `[positions, hidden_size]`.
        table: Tensor<'w>,
        /// The padding token's id, which is also its row.
        padding: usize,
    },
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

/// One layer: attention, then a feed-forward network with GELU; each followed by a residual and a layer norm.
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
    /// The `model_type` is not supported.
    #[error(
        "{path}: model_type `{model_type}` is not supported; supported types are {}",
        ARCHITECTURES.join(", ")
    )]
    UnknownArchitecture {
        /// The config.json.
        path: std::path::PathBuf,
        /// The value of the field.
        model_type: String,
    },
    /// The configuration does not match the weights.
    #[error("{config} and {weights} disagree: {what}")]
    Disagreement {
        /// The config.json.
        config: std::path::PathBuf,
        /// The safetensors file.
        weights: std::path::PathBuf,
        /// The difference.
        what: String,
    },
    /// A tensor is missing or has the wrong shape or type.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl Positions<'_> {
    pub(crate) fn table(&self) -> &Tensor<'_> {
        match self {
            Self::Sequential { table, .. } | Self::SkippingPadding { table, .. } => table,
        }
    }

    /// The table's values, `[positions, hidden_size]`, with the first token type's row added.
    ///
    /// # Errors
    /// [`WeightsError`].
    pub(crate) fn rows(&self) -> Result<Vec<f32>, WeightsError> {
        let mut rows = self.table().read()?;
        if let Self::Sequential { table, token_types } = self {
            let types = token_types.read()?;
            let width = table.shape()[1];
            for row in rows.chunks_exact_mut(width) {
                row.iter_mut().zip(&types[..width]).for_each(|(value, kind)| *value += kind);
            }
        }
        Ok(rows)
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
        let reader = Reader::new(source, weights)?;
        reader.check_layer_count()?;
        match source.config.model_type.as_str() {
            "mpnet" => mpnet::describe(source, &reader),
            "bert" => bert::describe(source, &reader),
            other => Err(EncoderError::UnknownArchitecture {
                path: source.path("config.json"),
                model_type: other.to_owned(),
            }),
        }
    }

    /// The maximum distance between two tokens of a text.
    pub(crate) fn farthest(&self) -> usize {
        self.position_limit - 1
    }
}

/// Finds tensors under the prefix that the file uses.
struct Reader<'s, 'w> {
    source: &'s Source,
    weights: &'w Weights,
    /// The names of an encoder's tensors have a prefix such as `bert.` if the checkpoint is that of a larger model.
    prefix: String,
}

impl<'s, 'w> Reader<'s, 'w> {
    fn new(source: &'s Source, weights: &'w Weights) -> Result<Self, EncoderError> {
        let known = ARCHITECTURES.contains(&source.config.model_type.as_str());
        if !known {
            let path = source.path("config.json");
            return Err(EncoderError::UnknownArchitecture { path, model_type: source.config.model_type.clone() });
        }
        let marker = "embeddings.word_embeddings.weight";
        let prefix = weights
            .names()
            .into_iter()
            .filter_map(|name| name.strip_suffix(marker).map(str::to_owned))
            .min_by_key(String::len)
            .unwrap_or_default();
        Ok(Self { source, weights, prefix })
    }

    fn tensor(&self, name: &str, shape: &[usize], because: &str) -> Result<Tensor<'w>, WeightsError> {
        self.weights.tensor(&format!("{}{name}", self.prefix), shape, &format!("{because} in config.json"))
    }

    fn linear(&self, name: &str, output: usize, input: usize) -> Result<Linear<'w>, WeightsError> {
        let because = "hidden_size or intermediate_size";
        Ok(Linear {
            weight: self.tensor(&format!("{name}.weight"), &[output, input], because)?,
            bias: self.tensor(&format!("{name}.bias"), &[output], because)?,
        })
    }

    fn layer_norm(&self, name: &str) -> Result<LayerNorm<'w>, WeightsError> {
        let shape = [self.source.config.hidden_size];
        Ok(LayerNorm {
            weight: self.tensor(&format!("{name}.weight"), &shape, "hidden_size")?,
            bias: self.tensor(&format!("{name}.bias"), &shape, "hidden_size")?,
        })
    }

    fn word_embeddings(&self) -> Result<Tensor<'w>, WeightsError> {
        let config = &self.source.config;
        let shape = [config.vocab_size, config.hidden_size];
        self.tensor("embeddings.word_embeddings.weight", &shape, "vocab_size and hidden_size")
    }

    fn position_embeddings(&self) -> Result<Tensor<'w>, WeightsError> {
        let config = &self.source.config;
        let shape = [config.max_position_embeddings, config.hidden_size];
        self.tensor("embeddings.position_embeddings.weight", &shape, "max_position_embeddings and hidden_size")
    }

    /// Rejects weights with more layers than the configuration. Ignoring the extra layers would silently give a
    /// different model.
    fn check_layer_count(&self) -> Result<(), EncoderError> {
        let start = format!("{}encoder.layer.", self.prefix);
        let highest = self
            .weights
            .names()
            .iter()
            .filter_map(|name| name.strip_prefix(&start)?.split('.').next()?.parse::<usize>().ok())
            .max();
        let in_weights = highest.map_or(0, |highest| highest.saturating_add(1));
        let in_config = self.source.config.num_hidden_layers;
        if in_weights > in_config {
            return Err(EncoderError::Disagreement {
                config: self.source.path("config.json"),
                weights: self.weights.path().to_owned(),
                what: format!("num_hidden_layers is {in_config}, but the weights have {in_weights} layers"),
            });
        }
        Ok(())
    }
}
