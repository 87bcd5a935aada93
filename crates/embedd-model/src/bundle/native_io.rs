//! The names in a native graph and in its weights' file: conversion writes them, the engine looks for them.

/// The domain of embedd's own operators.
pub const DOMAIN: &str = "embedd";

/// The operators.
pub mod operator {
    /// Token ids and offsets to the states that the first layer takes.
    pub const EMBED: &str = "Embed";
    /// A linear layer with INT8 weights, and what follows it.
    pub const QUANTIZED_LINEAR: &str = "QuantizedLinear";
    /// Attention within each text.
    pub const ATTENTION: &str = "Attention";
    /// A text's states to one row.
    pub const POOL: &str = "Pool";
}

/// The operators' attributes.
pub mod attribute {
    /// What a normalisation adds to the variance, float.
    pub const EPSILON: &str = "epsilon";
    /// Channels of a word's embedding that share a scale.
    pub const WORD_GROUP: &str = "word_group";
    /// The token that positions skip; absent where they skip none.
    pub const PADDING: &str = "padding";
    /// What the names of a linear layer's tensors begin with, text.
    pub const WEIGHTS: &str = "weights";
    /// Channels of a linear layer's input.
    pub const INPUTS: &str = "inputs";
    /// Channels of its output.
    pub const OUTPUTS: &str = "outputs";
    /// Its input channels that get 16 bits.
    pub const SPLIT: &str = "split";
    /// Channels of a group of its others.
    pub const GROUP: &str = "group";
    /// What follows a linear layer, a word of [`activation`](super::activation).
    pub const ACTIVATION: &str = "activation";
    /// Heads of attention.
    pub const HEADS: &str = "heads";
    /// The farthest distance that the bias of attention is for; absent where there is no bias.
    pub const FARTHEST: &str = "farthest";
    /// A word of [`pooling`](super::pooling).
    pub const POOLING: &str = "pooling";
}

/// What follows a linear layer.
pub mod activation {
    /// Nothing, or a residual and a normalisation.
    pub const NONE: &str = "none";
    /// GELU.
    pub const GELU: &str = "gelu";
}

/// How states become one row, as the manifest calls it.
pub mod pooling {
    use crate::bundle::Pooling;

    /// [`Pooling::Mean`]
    pub const MEAN: &str = Pooling::Mean.name();
    /// [`Pooling::Cls`]
    pub const CLS: &str = Pooling::Cls.name();
}

/// The tensors in the weights' file. Shapes and order of a linear layer's are those of `kernels::LinearWeights::new`.
pub mod tensor {
    /// INT8 `[vocabulary, hidden]`.
    pub const WORD_EMBEDDINGS: &str = "word_embeddings";
    /// Of [`WORD_EMBEDDINGS`], float32 `[vocabulary, groups]`.
    pub const WORD_SCALES: &str = "word_embeddings/scale";
    /// Float32 `[positions, hidden]`.
    pub const POSITION_EMBEDDINGS: &str = "position_embeddings";
    /// By head and distance, float32 `[heads, 2 * farthest + 1]`.
    pub const RELATIVE_ATTENTION_BIAS: &str = "relative_attention_bias";
    /// What the names of the embeddings' normalisation begin with.
    pub const EMBEDDINGS: &str = "embeddings";

    /// Of a linear layer: the integers.
    pub const WEIGHT: &str = "weight";
    /// Of a linear layer: two rows of scales for each group.
    pub const SCALE: &str = "scale";
    /// Of a linear layer.
    pub const BIAS: &str = "bias";
    /// Of a normalisation behind something, float32 `[hidden]`.
    pub const NORM_WEIGHT: &str = "norm/weight";
    /// As [`NORM_WEIGHT`].
    pub const NORM_BIAS: &str = "norm/bias";

    /// The name of one of the tensors of what begins with `prefix`.
    pub fn of(prefix: &str, part: &str) -> String {
        format!("{prefix}/{part}")
    }
}
