//! The parts of an encoder.

use serde::Serialize;

use crate::architecture::{FeedForward, NormNames, Positions, TensorNames};
use crate::source::{DisentangledConfig, LayerConfig, ModelConfig};
use embedd_kernels::{Activation, Heads, NormKind};

/// The parts of an encoder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EncoderDescription {
    /// The number of layers.
    pub layers: usize,
    /// Channels of a token's hidden state.
    pub hidden_size: usize,
    /// From tokens to the input of the first layer.
    pub embeddings: EmbeddingsDescription,
    /// How the encoder knows the order of tokens.
    pub positions: PositionsDescription,
    /// The first half of a layer.
    pub attention: AttentionDescription,
    /// The second half of a layer.
    pub feed_forward: FeedForwardDescription,
    /// The norms of hidden states.
    pub norms: NormsDescription,
}

/// The tables that token ids select rows of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EmbeddingsDescription {
    /// Rows of the table of tokens.
    pub vocab_size: usize,
    /// Rows of the table of token types, of which only the first is used; 0 if there is none.
    pub token_types: usize,
    /// Channels of a row. A linear layer follows if they are not those of a hidden state.
    pub width: usize,
    /// Whether rows are multiplied by the square root of their width.
    pub scaled: bool,
}

/// How an encoder knows the order of tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PositionsDescription {
    /// A table of position embeddings.
    pub table: Option<PositionTable>,
    /// Whether a bias of attention scores depends on the distance between tokens.
    pub distance_bias: bool,
    /// Rotations of queries and keys.
    pub rotary: Option<RotaryDescription>,
    /// Products of queries and keys with embeddings of distances.
    pub disentangled: Option<DisentangledConfig>,
}

/// A table of position embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PositionTable {
    /// The number of rows.
    pub rows: usize,
    /// The row of a text's first token.
    pub first_row: usize,
}

/// The bases of the rotations' frequencies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RotaryDescription {
    /// In layers that attend to the whole text, if there are any.
    pub theta: Option<f32>,
    /// In layers with windows, if there are any.
    pub window_theta: Option<f32>,
}

/// Attention.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttentionDescription {
    /// The numbers of query heads and of key and value heads, and their size.
    pub heads: Heads,
    /// The square of the number by which scores are divided.
    pub squared_divisor: usize,
    /// Whether tokens attend only to themselves and to earlier tokens.
    pub causal: bool,
    /// The layers that attend only to nearby tokens.
    pub windows: Vec<Window>,
}

/// Layers that attend only to nearby tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Their indices; 0 is the first layer.
    pub layers: Vec<usize>,
    /// The number of earlier tokens.
    pub back: Option<usize>,
    /// The number of later tokens; `None`: all.
    pub ahead: Option<usize>,
}

/// A feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FeedForwardDescription {
    /// Channels after the activation.
    pub size: usize,
    /// The function between its linear layers.
    pub activation: Activation,
    /// Whether the activation multiplies the output of another linear layer.
    pub gated: bool,
}

/// The norms of an encoder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NormsDescription {
    /// The kind of all of them.
    pub kind: NormKind,
    /// The value that is added to the variance.
    pub epsilon: f32,
    /// Whether 1 is added to their weights.
    pub plus_one: bool,
    /// What is normalized, in order.
    pub of: Vec<Normalized>,
}

/// What a norm is applied to. A sum is that of a sublayer's input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Normalized {
    Embeddings,
    AttentionInput,
    AttentionInputExceptFirst,
    QueriesAndKeys,
    AttentionOutput,
    AttentionSum,
    FeedForwardInput,
    FeedForwardOutput,
    FeedForwardSum,
    LastLayer,
}

impl EncoderDescription {
    pub(super) fn of(config: &ModelConfig) -> Self {
        let parts = &config.architecture.parts;
        Self {
            layers: config.layers.len(),
            hidden_size: config.hidden_size,
            embeddings: EmbeddingsDescription {
                vocab_size: config.vocab_size,
                token_types: config.token_types,
                width: config.embedding_size,
                scaled: parts.scaled_words,
            },
            positions: positions(config),
            attention: AttentionDescription {
                heads: config.heads,
                squared_divisor: config.squared_divisor,
                causal: config.layers.iter().all(|layer| layer.reach.ahead == Some(0)),
                windows: windows(&config.layers),
            },
            feed_forward: FeedForwardDescription {
                size: config.intermediate_size,
                activation: config.activation,
                gated: !matches!(config.architecture.tensors.feed_forward, FeedForward::Plain(_)),
            },
            norms: NormsDescription {
                kind: parts.norm,
                epsilon: config.epsilon,
                plus_one: parts.norm_plus_one,
                of: normalized(&config.architecture.tensors, parts.first_input_is_normalized),
            },
        }
    }
}

fn positions(config: &ModelConfig) -> PositionsDescription {
    let first_row = config.padding.map_or(0, |padding| padding + 1);
    let theta = |windowed: bool| {
        let mut layers = config.layers.iter().filter(|layer| is_windowed(layer) == windowed);
        layers.find_map(|layer| layer.theta)
    };
    let rotary = RotaryDescription { theta: theta(false), window_theta: theta(true) };
    PositionsDescription {
        table: config.has_position_table.then_some(PositionTable { rows: config.positions, first_row }),
        distance_bias: matches!(config.architecture.parts.positions, Positions::TableAndBias(..)),
        rotary: (rotary.theta.is_some() || rotary.window_theta.is_some()).then_some(rotary),
        disentangled: config.disentangled,
    }
}

fn is_windowed(layer: &LayerConfig) -> bool {
    layer.reach.back.is_some()
}

/// The layers with windows, by window.
fn windows(layers: &[LayerConfig]) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for (index, layer) in layers.iter().enumerate().filter(|(_, layer)| is_windowed(layer)) {
        let (back, ahead) = (layer.reach.back, layer.reach.ahead);
        match windows.iter_mut().find(|window| (window.back, window.ahead) == (back, ahead)) {
            Some(window) => window.layers.push(index),
            None => windows.push(Window { layers: vec![index], back, ahead }),
        }
    }
    windows
}

fn normalized(names: &TensorNames, first_input_is_normalized: bool) -> Vec<Normalized> {
    let input = match first_input_is_normalized {
        true => Normalized::AttentionInputExceptFirst,
        false => Normalized::AttentionInput,
    };
    let NormNames { input: attention_input, output: attention_output, sum: attention_sum } = names.attention_norms;
    let NormNames { input: feed_forward_input, output: feed_forward_output, sum: feed_forward_sum } =
        names.output_norms;
    let all = [
        (Normalized::Embeddings, names.embeddings_norm.is_some()),
        (input, attention_input.is_some()),
        (Normalized::QueriesAndKeys, names.query_key_norms.is_some()),
        (Normalized::AttentionOutput, attention_output.is_some()),
        (Normalized::AttentionSum, attention_sum.is_some()),
        (Normalized::FeedForwardInput, feed_forward_input.is_some()),
        (Normalized::FeedForwardOutput, feed_forward_output.is_some()),
        (Normalized::FeedForwardSum, feed_forward_sum.is_some()),
        (Normalized::LastLayer, names.final_norm.is_some()),
    ];
    all.into_iter().filter(|(_, exists)| *exists).map(|(place, _)| place).collect()
}
