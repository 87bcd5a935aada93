//! The supported architectures: how each names its settings and tensors, which parts it has, and what transformers
//! assumes if a setting is missing.
//!
//! A new architecture that has the same parts as others is a new row of [`ALL`]; its rows are in `architecture/`.

use embedd_kernels::{Activation, NormKind};

mod post_norm;
mod pre_norm;

/// An architecture, by its `model_type`.
#[derive(Debug)]
pub(crate) struct Architecture {
    pub(crate) model_type: &'static str,
    pub(crate) settings: Settings,
    pub(crate) tensors: TensorNames,
    pub(crate) parts: Parts,
}

/// The names of settings that differ between architectures, and the default of each setting.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) hidden_size: (&'static str, usize),
    pub(crate) layers: (&'static str, usize),
    pub(crate) heads: (&'static str, usize),
    /// `None`: every query head has its own keys and values.
    pub(crate) key_value_heads: Option<(&'static str, usize)>,
    /// `None`: the hidden states are divided among the heads.
    pub(crate) head_size: Option<(&'static str, Option<usize>)>,
    pub(crate) intermediate_size: (&'static str, usize),
    pub(crate) activation: (&'static str, Activation),
    pub(crate) epsilon: (&'static str, f32),
    pub(crate) vocab_size: usize,
    /// The default of `max_position_embeddings`.
    pub(crate) positions: usize,
    /// `None`: there are no token types.
    pub(crate) token_types: Option<usize>,
    /// `None`: embeddings are as wide as the hidden states.
    pub(crate) embedding_size: Option<usize>,
    /// The square of the number by which scores are divided; `None`: the size of a head.
    pub(crate) squared_divisor: Option<(&'static str, usize)>,
    /// Settings that must be missing, `null`, `false` or 0, because what they ask for is not supported.
    pub(crate) unsupported: &'static [&'static str],
}

/// The names of tensors, without the prefix of the whole encoder and, in layers, that of the layer. Linear layers and
/// norms have a weight and a bias.
#[derive(Debug)]
pub(crate) struct TensorNames {
    pub(crate) words: &'static str,
    pub(crate) positions: &'static str,
    pub(crate) token_types: &'static str,
    /// `None`: embeddings are not normalized.
    pub(crate) embeddings_norm: Option<&'static str>,
    /// A linear layer from the embeddings to the hidden states, if their sizes differ.
    pub(crate) projection: Option<&'static str>,
    /// The prefix of a layer, before its index.
    pub(crate) layer: &'static str,
    pub(crate) query_key_value: QueryKeyValue,
    /// Norms of each query and key.
    pub(crate) query_key_norms: Option<[&'static str; 2]>,
    pub(crate) attention_output: &'static str,
    pub(crate) attention_norms: NormNames,
    pub(crate) feed_forward: FeedForward,
    pub(crate) output: &'static str,
    pub(crate) output_norms: NormNames,
    /// A norm of the last layer's hidden states.
    pub(crate) final_norm: Option<&'static str>,
    /// Whether linear layers and norms may lack a bias.
    pub(crate) optional_biases: bool,
}

/// Where the weights for queries, keys and values are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum QueryKeyValue {
    /// In a linear layer each.
    Separate([&'static str; 3]),
    /// In one linear layer, in this order.
    Fused(&'static str),
}

/// Where the weights before the activation are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FeedForward {
    /// The activation of a linear layer.
    Plain(&'static str),
    /// The activation of `gate` is multiplied by `values`.
    Gated { gate: &'static str, values: &'static str },
    /// The same, in one linear layer that starts with the gate.
    GateThenValues(&'static str),
    /// The same, in one linear layer that ends with the gate.
    ValuesThenGate(&'static str),
}

/// The norms around a sublayer, which is attention or the feed-forward network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormNames {
    /// Of the sublayer's input.
    pub(crate) input: Option<&'static str>,
    /// Of the sublayer's output, before it is added to the hidden states.
    pub(crate) output: Option<&'static str>,
    /// Of the sum.
    pub(crate) sum: Option<&'static str>,
}

/// The parts that differ between architectures.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) positions: Positions,
    pub(crate) norm: NormKind,
    /// Whether 1 is added to the weights of norms.
    pub(crate) norm_plus_one: bool,
    /// Whether the first layer's input is not normalized, because embeddings are.
    pub(crate) first_input_is_normalized: bool,
    /// Whether word embeddings are multiplied by the square root of their width.
    pub(crate) scaled_words: bool,
    pub(crate) direction: Direction,
    pub(crate) windows: Windows,
}

/// How an encoder knows the order of tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Positions {
    /// A table of position embeddings.
    Table(FirstPosition),
    /// The same, and a bias of the attention scores from this table.
    TableAndBias(FirstPosition, &'static str),
    /// Rotations of queries and keys.
    Rotary(Theta),
    /// Products with embeddings of distances, and a table of position embeddings if `position_biased_input` is set.
    Disentangled,
}

/// The base of the rotations' frequencies, where `rope_parameters` does not set it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Theta {
    /// The older name of the setting, and the default.
    pub(crate) global: (&'static str, f32),
    /// The same for layers with windows.
    pub(crate) local: (&'static str, f32),
}

/// The row of the position table for the first token of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstPosition {
    /// Row 0.
    Zero,
    /// The row after the padding token's id, which is this one or `pad_token_id` in the configuration. Padding tokens
    /// take no position.
    AfterPadding { padding: usize, configurable: bool },
}

/// The keys that a query may attend to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Both,
    /// Only itself and earlier ones.
    Causal,
    /// Both directions if this setting is `true`.
    CausalUnless(&'static str),
}

/// Which layers attend only to nearby tokens, where `layer_types` does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Windows {
    /// No layer.
    None,
    /// All but every n-th layer, starting at the first.
    AllBut { every: (&'static str, usize), window: (&'static str, usize) },
    /// All but every n-th layer, starting at the n-th.
    AllButLast { every: (&'static str, usize), window: (&'static str, usize) },
    /// From the layer `from` on, if the setting `enabled` is `true`.
    From { enabled: &'static str, from: (&'static str, usize), window: (&'static str, usize) },
}

const NO_NORMS: NormNames = NormNames { input: None, output: None, sum: None };

/// All supported architectures.
pub(crate) static ALL: [Architecture; 14] = [
    post_norm::MPNET,
    post_norm::BERT,
    post_norm::roberta("roberta", 50265),
    post_norm::roberta("xlm-roberta", 30522),
    post_norm::roberta("camembert", 30522),
    post_norm::DISTILBERT,
    post_norm::ELECTRA,
    post_norm::DEBERTA_V2,
    post_norm::NOMIC_BERT,
    post_norm::GTE,
    post_norm::JINA_EMBEDDINGS_V3,
    pre_norm::MODERNBERT,
    pre_norm::GEMMA3_TEXT,
    pre_norm::QWEN3,
];

/// The architecture with this `model_type`.
pub(crate) fn find(model_type: &str) -> Option<&'static Architecture> {
    ALL.iter().find(|architecture| architecture.model_type == model_type)
}

/// The supported values of `model_type`, for errors.
pub(crate) fn names() -> String {
    ALL.each_ref().map(|architecture| architecture.model_type).join(", ")
}
