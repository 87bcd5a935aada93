//! Finds an encoder's tensors by the names of its architecture.

use super::distances::{BUCKETS, DisentangledAttention, Distances, RelativeAttention};
use super::{Embeddings, EncoderError, Layer, Linear, Norm, Norms, Positions};
use crate::architecture::{self, FeedForward, NormNames, QueryKeyValue, TensorNames};
use crate::source::{ModelConfig, Source};
use crate::weights::{Tensor, Weights, WeightsError};

/// Finds tensors under the prefix that the file uses.
pub(super) struct Reader<'s, 'w> {
    source: &'s Source,
    config: &'s ModelConfig,
    names: &'static TensorNames,
    weights: &'w Weights,
    /// The names of an encoder's tensors have a prefix such as `bert.` if the checkpoint is that of a larger model.
    prefix: String,
}

impl<'s, 'w> Reader<'s, 'w> {
    pub(super) fn new(source: &'s Source, weights: &'w Weights) -> Self {
        let config = &source.config;
        let names = &config.architecture.tensors;
        let prefix = weights
            .names()
            .into_iter()
            .filter_map(|name| name.strip_suffix(names.words).map(str::to_owned))
            .min_by_key(String::len)
            .unwrap_or_default();
        Self { source, config, names, weights, prefix }
    }

    fn tensor(&self, name: &str, shape: &[usize], because: &str) -> Result<Tensor<'w>, WeightsError> {
        self.weights.tensor(&format!("{}{name}", self.prefix), shape, &format!("{because} in config.json"))
    }

    /// The bias of a linear layer or norm, which some architectures need not have.
    fn bias(&self, name: &str, length: usize, because: &str) -> Result<Option<Tensor<'w>>, WeightsError> {
        let name = format!("{name}.bias");
        if self.names.optional_biases && !self.weights.has(&format!("{}{name}", self.prefix)) {
            return Ok(None);
        }
        self.tensor(&name, &[length], because).map(Some)
    }

    fn linear(&self, name: &str, output: usize, input: usize) -> Result<Linear<'w>, WeightsError> {
        let settings = &self.config.architecture.settings;
        let because = match settings.head_size {
            None => format!("{} or {}", settings.hidden_size.0, settings.intermediate_size.0),
            Some((head_size, _)) => {
                format!("{}, {} or {head_size}", settings.hidden_size.0, settings.intermediate_size.0)
            }
        };
        Ok(Linear {
            weight: self.tensor(&format!("{name}.weight"), &[output, input], &because)?,
            bias: self.bias(name, output, &because)?,
        })
    }

    /// A linear layer that has several others' outputs, one after the other, divided into these.
    fn divided<const N: usize>(
        &self,
        name: &str,
        outputs: [usize; N],
        input: usize,
    ) -> Result<[Linear<'w>; N], WeightsError> {
        let whole = self.linear(name, outputs.iter().sum(), input)?;
        let mut start = 0;
        Ok(outputs.map(|count| {
            let rows = start..start + count;
            start = rows.end;
            Linear { weight: whole.weight.rows(rows.clone()), bias: whole.bias.as_ref().map(|bias| bias.rows(rows)) }
        }))
    }

    fn norm(&self, name: &str, channels: usize) -> Result<Norm<'w>, WeightsError> {
        let because = self.config.architecture.settings.hidden_size.0;
        let parts = &self.config.architecture.parts;
        Ok(Norm {
            kind: parts.norm,
            weight: self.tensor(&format!("{name}.weight"), &[channels], because)?,
            plus_one: parts.norm_plus_one,
            bias: self.bias(name, channels, because)?,
            epsilon: self.config.epsilon,
        })
    }

    pub(super) fn embeddings(&self) -> Result<Embeddings<'w>, WeightsError> {
        let config = self.config;
        let names = self.names;
        let width = config.embedding_size;
        let table = |name: &str, rows: usize, because: &str| {
            let because = format!("{because} and {}", config.architecture.settings.hidden_size.0);
            self.tensor(name, &[rows, width], &because)
        };
        let positions = config.has_position_table.then(|| {
            let table = table(names.positions, config.positions, "max_position_embeddings")?;
            Ok::<_, WeightsError>(Positions { table, padding: config.padding })
        });
        let types = (config.token_types > 0).then(|| table(names.token_types, config.token_types, "type_vocab_size"));
        let projection = names.projection.filter(|_| width != config.hidden_size);
        Ok(Embeddings {
            words: table(names.words, config.vocab_size, "vocab_size")?,
            scale: if config.architecture.parts.scaled_words { (width as f32).sqrt() } else { 1.0 },
            positions: positions.transpose()?,
            token_types: types.transpose()?,
            norm: names.embeddings_norm.map(|name| self.norm(name, width)).transpose()?,
            projection: projection.map(|name| self.linear(name, config.hidden_size, width)).transpose()?,
        })
    }

    pub(super) fn distances(&self) -> Result<Distances<'w>, WeightsError> {
        if let architecture::Positions::TableAndBias(_, name) = self.config.architecture.parts.positions {
            let because = self.config.architecture.settings.heads.0;
            let table = self.tensor(name, &[BUCKETS, self.config.heads.query], because)?;
            return Ok(Distances::Bias(RelativeAttention { table, buckets: BUCKETS }));
        }
        let Some(config) = self.config.disentangled else { return Ok(Distances::None) };
        let hidden = self.config.hidden_size;
        let name = "encoder.rel_embeddings.weight";
        let embeddings = self.tensor(name, &[2 * config.span, hidden], "position_buckets or hidden_size")?;
        let norm = config.normalized.then(|| self.norm("encoder.LayerNorm", hidden)).transpose()?;
        let layers =
            (0..self.config.layers.len()).map(|index| self.distance_weights(index)).collect::<Result<_, _>>()?;
        Ok(Distances::Disentangled(Box::new(DisentangledAttention { config, embeddings, norm, layers })))
    }

    /// The weights that turn embeddings of distances into keys and queries.
    fn distance_weights(&self, index: usize) -> Result<[Option<Linear<'w>>; 2], WeightsError> {
        let Some(config) = self.config.disentangled else { return Ok([None, None]) };
        let hidden = self.config.hidden_size;
        let QueryKeyValue::Separate([query, key, _]) = self.names.query_key_value else { return Ok([None, None]) };
        let [keys, queries] = match config.shared_weights {
            true => [key, query],
            false => ["attention.self.pos_key_proj", "attention.self.pos_query_proj"],
        };
        let linear = |name: &str| self.linear(&self.in_layer(index, name), hidden, hidden);
        Ok([
            config.content_to_position.then(|| linear(keys)).transpose()?,
            config.position_to_content.then(|| linear(queries)).transpose()?,
        ])
    }

    pub(super) fn final_norm(&self) -> Result<Option<Norm<'w>>, WeightsError> {
        self.names.final_norm.map(|name| self.norm(name, self.config.hidden_size)).transpose()
    }

    fn in_layer(&self, index: usize, part: &str) -> String {
        format!("{}.{index}.{part}", self.names.layer)
    }

    pub(super) fn layer(&self, index: usize) -> Result<Layer<'w>, WeightsError> {
        let Self { config, names, .. } = self;
        let (hidden, inner, heads) = (config.hidden_size, config.intermediate_size, config.heads);
        let [query, key, value] = self.query_key_value(index)?;
        let (gate, intermediate) = self.feed_forward(index)?;
        let head_norm = |name| self.norm(&self.in_layer(index, name), heads.size);
        let head_norms =
            names.query_key_norms.map(|[query, key]| Ok::<_, WeightsError>([head_norm(query)?, head_norm(key)?]));
        let first = index == 0 && config.architecture.parts.first_input_is_normalized;
        let attention_norms =
            NormNames { input: names.attention_norms.input.filter(|_| !first), ..names.attention_norms };
        Ok(Layer {
            query,
            key,
            value,
            query_key_norms: head_norms.transpose()?,
            theta: config.layers[index].theta,
            reach: config.layers[index].reach,
            attention_output: self.linear(&self.in_layer(index, names.attention_output), hidden, heads.output())?,
            attention_norms: self.norms(index, attention_norms)?,
            gate,
            intermediate,
            output: self.linear(&self.in_layer(index, names.output), hidden, inner)?,
            output_norms: self.norms(index, names.output_norms)?,
        })
    }

    fn query_key_value(&self, index: usize) -> Result<[Linear<'w>; 3], WeightsError> {
        let heads = self.config.heads;
        let outputs = [heads.query, heads.key, heads.key].map(|count| count * heads.size);
        let hidden = self.config.hidden_size;
        match self.names.query_key_value {
            QueryKeyValue::Fused(name) => self.divided(&self.in_layer(index, name), outputs, hidden),
            QueryKeyValue::Separate([query, key, value]) => {
                let linear = |name, output| self.linear(&self.in_layer(index, name), output, hidden);
                Ok([linear(query, outputs[0])?, linear(key, outputs[1])?, linear(value, outputs[2])?])
            }
        }
    }

    /// The gate, if there is one, and the layer beside it.
    fn feed_forward(&self, index: usize) -> Result<(Option<Linear<'w>>, Linear<'w>), WeightsError> {
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let linear = |name| self.linear(&self.in_layer(index, name), inner, hidden);
        let both = |name| self.divided(&self.in_layer(index, name), [inner; 2], hidden);
        Ok(match self.names.feed_forward {
            FeedForward::Plain(name) => (None, linear(name)?),
            FeedForward::Gated { gate, values } => (Some(linear(gate)?), linear(values)?),
            FeedForward::GateThenValues(name) => {
                let [gate, values] = both(name)?;
                (Some(gate), values)
            }
            FeedForward::ValuesThenGate(name) => {
                let [values, gate] = both(name)?;
                (Some(gate), values)
            }
        })
    }

    fn norms(&self, index: usize, names: NormNames) -> Result<Norms<'w>, WeightsError> {
        let norm = |name: Option<&str>| {
            name.map(|name| self.norm(&self.in_layer(index, name), self.config.hidden_size)).transpose()
        };
        Ok(Norms { input: norm(names.input)?, output: norm(names.output)?, sum: norm(names.sum)? })
    }

    /// Rejects weights with more layers than the configuration. Ignoring the extra layers would silently give a
    /// different model.
    pub(super) fn check_layer_count(&self) -> Result<(), EncoderError> {
        let start = format!("{}{}.", self.prefix, self.names.layer);
        let highest = self
            .weights
            .names()
            .iter()
            .filter_map(|name| name.strip_prefix(&start)?.split('.').next()?.parse::<usize>().ok())
            .max();
        let in_weights = highest.map_or(0, |highest| highest.saturating_add(1));
        let in_config = self.config.layers.len();
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
