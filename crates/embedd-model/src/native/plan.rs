//! What a native encoder computes, and the names of its tensors. Conversion writes both, and the engine reads them.

use serde::{Deserialize, Serialize};

use crate::bundle::Pooling;
use embedd_kernels::{Activation, RowLayout};

/// The domain of embedd's custom operator.
pub const DOMAIN: &str = "embedd";
/// The operator: from token ids and text offsets to one vector per text, float32 `[texts, width]`, not normalized.
pub const OPERATOR: &str = "Encoder";
/// The operator's attribute: a [`Plan`] as JSON.
pub const PLAN: &str = "plan";

/// An encoder: embeddings, then layers of attention and a feed-forward network, each followed by a residual and a layer
/// norm, then pooling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Channels of a token's hidden state.
    pub hidden: usize,
    /// Attention heads of `hidden / heads` channels each.
    pub heads: usize,
    /// The value that layer norms add to the variance.
    pub epsilon: f32,
    /// How token ids become the hidden states for the first layer.
    pub embeddings: EmbeddingsPlan,
    /// The largest distance in the attention bias; absent if there is no bias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub farthest: Option<usize>,
    /// The activation in the feed-forward networks.
    #[serde(with = "activation")]
    pub activation: Activation,
    /// In order, starting at the input.
    pub layers: Vec<LayerPlan>,
    /// How the hidden states of a text become one vector.
    pub pooling: Pooling,
}

/// The embeddings: the sum of word and position embeddings, a layer norm, and a projection if they are narrower than the
/// hidden states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingsPlan {
    /// Channels of an embedding.
    pub width: usize,
    /// The number of channels of a word embedding that share a scale.
    pub word_group: usize,
    /// The id of the padding token, which takes no position; absent if every token takes a position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padding: Option<usize>,
    /// From `width` to `hidden` channels; absent if they are equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<LinearPlan>,
}

/// The linear layers of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerPlan {
    /// Queries, keys and values.
    pub qkv: LinearPlan,
    /// After attention.
    pub attention_output: LinearPlan,
    /// Before the activation.
    pub intermediate: LinearPlan,
    /// After the activation.
    pub output: LinearPlan,
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

/// The activations' names.
mod activation {
    use serde::de::{Error, Unexpected};
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Activation;

    const NAMES: [(Activation, &str); 3] =
        [(Activation::Gelu, "gelu"), (Activation::GeluTanh, "gelu_tanh"), (Activation::Relu, "relu")];

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde requires it")]
    pub(super) fn serialize<S: Serializer>(activation: &Activation, to: S) -> Result<S::Ok, S::Error> {
        let name = NAMES.iter().find(|(known, _)| known == activation).map_or("none", |(_, name)| name);
        to.serialize_str(name)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Activation, D::Error> {
        let name = String::deserialize(from)?;
        let known = NAMES.iter().find(|(_, known)| *known == name);
        known
            .map(|(activation, _)| *activation)
            .ok_or_else(|| Error::invalid_value(Unexpected::Str(&name), &"the name of an activation"))
    }
}

/// The names of the tensors in the weights file. For the shapes of a linear layer's tensors, see
/// `embedd_kernels::PackedShapes`.
pub mod tensor {
    /// Quantized word embeddings, int8 `[vocabulary, width]`.
    pub const WORD_EMBEDDINGS: &str = "word_embeddings";
    /// The scales of [`WORD_EMBEDDINGS`], float32 `[vocabulary, groups]`.
    pub const WORD_SCALES: &str = "word_embeddings/scale";
    /// Position embeddings, float32 `[positions, width]`.
    pub const POSITION_EMBEDDINGS: &str = "position_embeddings";
    /// The attention bias by head and distance, float32 `[heads, 2 * farthest + 1]`.
    pub const RELATIVE_ATTENTION_BIAS: &str = "relative_attention_bias";
    /// The prefix of the layer norm after the embeddings.
    pub const EMBEDDINGS: &str = "embeddings";
    /// The prefix of the projection of the embeddings.
    pub const PROJECTION: &str = "embeddings/projection";

    /// The integers of a linear layer.
    pub const WEIGHT: &str = "weight";
    /// The scales and zero-point terms of a linear layer, one row of each per group.
    pub const SCALE: &str = "scale";
    /// The bias of a linear layer.
    pub const BIAS: &str = "bias";
    /// The weight of the layer norm that follows, float32 `[hidden]`.
    pub const NORM_WEIGHT: &str = "norm/weight";
    /// The bias of the layer norm that follows, float32 `[hidden]`.
    pub const NORM_BIAS: &str = "norm/bias";

    /// The prefixes of a layer's linear layers, in the order of their computation: queries, keys and values; after
    /// attention; before the activation; after the activation.
    pub fn layer(index: usize) -> [String; 4] {
        ["attention/qkv", "attention_output", "intermediate", "output"].map(|part| format!("layer.{index}/{part}"))
    }

    /// The full name of a tensor: `prefix/part`.
    pub fn of(prefix: &str, part: &str) -> String {
        format!("{prefix}/{part}")
    }
}
