//! What a native encoder computes, and the names of its tensors. Conversion writes both, and the engine reads them.

use serde::{Deserialize, Serialize};

use crate::bundle::Pooling;
use embedd_kernels::{Activation, Heads, NormKind, PositionRule, Reach, RowLayout};

/// The domain of embedd's custom operator.
pub const DOMAIN: &str = "embedd";
/// The operator: from token ids, text offsets, and the number of tokens at the start of each text that are not pooled, to
/// one vector per text, float32 `[texts, width]`, not normalized.
pub const OPERATOR: &str = "Encoder";
/// The operator's attribute: a [`Plan`] as JSON.
pub const PLAN: &str = "plan";

/// An encoder: embeddings, then layers of attention and a feed-forward network, then pooling, then modules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Channels of a token's hidden state.
    pub hidden: usize,
    /// The norms of hidden states, queries and keys.
    pub norm: NormPlan,
    /// How token ids become the hidden states for the first layer.
    pub embeddings: EmbeddingsPlan,
    /// The heads of queries, keys and values.
    pub heads: Heads,
    /// The square of the number by which attention scores are divided.
    pub squared_divisor: usize,
    /// How attention scores depend on distances.
    pub distances: DistancesPlan,
    /// Whether each query and key is normalized.
    pub query_key_norms: bool,
    /// The activation in the feed-forward networks.
    pub activation: Activation,
    /// Whether the activation of the first half of a product is multiplied by its second half.
    pub gated: bool,
    /// In order, starting at the input.
    pub layers: Vec<LayerPlan>,
    /// Whether the last layer's hidden states are normalized.
    pub final_norm: bool,
    /// How the hidden states of a text become one vector.
    pub pooling: Pooling,
    /// What happens to this vector, in order.
    pub modules: Vec<ModulePlan>,
}

/// The kind of a norm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormPlan {
    /// How values are normalized.
    pub kind: NormKind,
    /// The value that is added to the variance.
    pub epsilon: f32,
}

/// The embeddings: the sum of word and position embeddings, a norm, and a projection if they are narrower than the
/// hidden states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingsPlan {
    /// Channels of an embedding.
    pub width: usize,
    /// The number of channels of a word embedding that share a scale.
    pub word_group: usize,
    /// The row of the position table for each token.
    pub positions: PositionRule,
    /// Whether the sum is normalized.
    pub norm: bool,
    /// From `width` to `hidden` channels; absent if they are equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<LinearPlan>,
}

/// How attention scores depend on the distance from a query to a key, apart from rotations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DistancesPlan {
    /// They do not.
    None,
    /// By a bias of each head.
    Bias {
        /// The largest distance.
        farthest: usize,
    },
    /// By products with embeddings of distances.
    Disentangled {
        /// Whether queries are multiplied by them.
        keys: bool,
        /// Whether keys are multiplied by them.
        queries: bool,
        /// The number of embeddings.
        embeddings: usize,
        /// The embedding of each distance, from minus the largest to the largest.
        by_distance: Vec<u32>,
    },
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerPlan {
    /// The keys that a query attends to.
    pub reach: Reach,
    /// The base of the frequencies by which queries and keys are rotated; absent if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub theta: Option<f32>,
    /// Queries, keys and values.
    pub qkv: LinearPlan,
    /// After attention.
    pub attention_output: LinearPlan,
    /// The norms around attention.
    pub attention_norms: NormsPlan,
    /// Before the activation.
    pub intermediate: LinearPlan,
    /// After the activation.
    pub output: LinearPlan,
    /// The norms around the feed-forward network.
    pub output_norms: NormsPlan,
}

/// Which norms there are around a sublayer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormsPlan {
    /// Of its input.
    pub input: bool,
    /// Of its output, before it is added to the hidden states.
    pub output: bool,
    /// Of the sum.
    pub sum: bool,
}

/// What happens to a pooled vector.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ModulePlan {
    /// A linear layer, then an activation if there is one.
    Dense {
        /// The linear layer.
        linear: LinearPlan,
        /// The activation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        activation: Option<Activation>,
    },
    /// Normalization over the components.
    Norm(NormPlan),
}

/// A linear layer with INT8 weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearPlan {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// The number of input channels that are quantized to 16 bits; they come first.
    pub split: usize,
    /// The number of other input channels that share a scale.
    pub group: usize,
}

impl LinearPlan {
    /// A linear layer with inputs in this layout.
    pub fn new(layout: RowLayout, outputs: usize) -> Self {
        let RowLayout { inputs, split, group } = layout;
        Self { inputs, outputs, split, group }
    }

    /// The layout of its quantized input.
    pub fn layout(&self) -> RowLayout {
        RowLayout { inputs: self.inputs, split: self.split, group: self.group }
    }
}

/// The names of the tensors in the weights file. For the shapes of a linear layer's tensors, see
/// `embedd_kernels::PackedShapes`.
pub mod tensor {
    /// Quantized word embeddings, int8 `[vocabulary, width]`.
    pub const WORD_EMBEDDINGS: &str = "word_embeddings";
    /// The scales of [`WORD_EMBEDDINGS`], float32 `[vocabulary, groups]`.
    pub const WORD_SCALES: &str = "word_embeddings/scale";
    /// Position embeddings, float32 `[positions, width]`; one row if embeddings do not depend on the position.
    pub const POSITION_EMBEDDINGS: &str = "position_embeddings";
    /// The attention bias by head and distance, float32 `[heads, 2 * farthest + 1]`.
    pub const RELATIVE_ATTENTION_BIAS: &str = "relative_attention_bias";
    /// The prefix of the norm after the embeddings.
    pub const EMBEDDINGS: &str = "embeddings";
    /// The prefix of the norm after the last layer.
    pub const FINAL: &str = "final";
    /// The prefix of the projection of the embeddings.
    pub const PROJECTION: &str = "embeddings/projection";

    /// The integers of a linear layer.
    pub const WEIGHT: &str = "weight";
    /// The scales and zero-point terms of a linear layer, one row of each per group.
    pub const SCALE: &str = "scale";
    /// The bias of a linear layer.
    pub const BIAS: &str = "bias";
    /// The weight of a norm, float32 `[channels]`.
    pub const NORM_WEIGHT: &str = "norm/weight";
    /// The bias of a norm, float32 `[channels]`.
    pub const NORM_BIAS: &str = "norm/bias";

    /// The prefixes of a layer's linear layers, in the order of their computation: queries, keys and values; after
    /// attention; before the activation; after the activation.
    pub fn layer(index: usize) -> [String; 4] {
        ["attention/qkv", "attention_output", "intermediate", "output"].map(|part| format!("layer.{index}/{part}"))
    }

    /// The prefixes of a layer's norms around attention and around the feed-forward network: of the input, of the
    /// output, and of the sum.
    pub fn norms(index: usize) -> [[String; 3]; 2] {
        [["attention/input", "attention/branch", "attention_output"], ["intermediate/input", "output/branch", "output"]]
            .map(|parts| parts.map(|part| format!("layer.{index}/{part}")))
    }

    /// The prefixes of a layer's norms of queries and keys.
    pub fn query_key_norms(index: usize) -> [String; 2] {
        ["query", "key"].map(|part| format!("layer.{index}/attention/{part}"))
    }

    /// A layer's embeddings of distances as keys and as queries, float32 `[embeddings, heads, head_size]`.
    pub fn distances(index: usize) -> [String; 2] {
        ["keys", "queries"].map(|part| format!("layer.{index}/distances/{part}"))
    }

    /// The prefix of a module's tensors.
    pub fn module(index: usize) -> String {
        format!("module.{index}")
    }

    /// The full name of a tensor: `prefix/part`.
    pub fn of(prefix: &str, part: &str) -> String {
        format!("{prefix}/{part}")
    }
}
