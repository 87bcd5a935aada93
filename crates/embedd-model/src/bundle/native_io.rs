//! The names in a native graph and its weights file, shared by conversion and the native engine.

/// The domain of embedd's custom operators.
pub const DOMAIN: &str = "embedd";

/// The names of the operators.
pub mod operator {
    /// Turns token ids and offsets into the hidden states for the first layer.
    pub const EMBED: &str = "Embed";
    /// A linear layer with INT8 weights, with an optional activation, or a residual and a layer norm.
    pub const QUANTIZED_LINEAR: &str = "QuantizedLinear";
    /// Attention within each text.
    pub const ATTENTION: &str = "Attention";
    /// Pools the hidden states of each text into one vector.
    pub const POOL: &str = "Pool";
}

/// The names of the operators' attributes.
pub mod attribute {
    /// The value that a layer norm adds to the variance, float.
    pub const EPSILON: &str = "epsilon";
    /// The number of channels of a word embedding that share a scale.
    pub const WORD_GROUP: &str = "word_group";
    /// The id of the padding token, which takes no position; absent if every token takes a position.
    pub const PADDING: &str = "padding";
    /// The prefix of the names of a linear layer's tensors, string.
    pub const WEIGHTS: &str = "weights";
    /// The number of input channels of a linear layer.
    pub const INPUTS: &str = "inputs";
    /// The number of output channels of a linear layer.
    pub const OUTPUTS: &str = "outputs";
    /// The number of outlier channels in the input of a linear layer; they are quantized to 16 bits.
    pub const SPLIT: &str = "split";
    /// The number of channels per group, for input channels that are not outliers.
    pub const GROUP: &str = "group";
    /// The activation after a linear layer, one of [`activation`](super::activation).
    pub const ACTIVATION: &str = "activation";
    /// The number of attention heads.
    pub const HEADS: &str = "heads";
    /// The largest distance in the attention bias; absent if there is no bias.
    pub const FARTHEST: &str = "farthest";
    /// How hidden states are pooled, one of [`pooling`](super::pooling).
    pub const POOLING: &str = "pooling";
}

/// Activations after a linear layer.
pub mod activation {
    /// No activation; a residual and a layer norm may follow.
    pub const NONE: &str = "none";
    /// The exact GELU.
    pub const GELU: &str = "gelu";
}

/// Pooling methods, with the names that the manifest uses.
pub mod pooling {
    use crate::bundle::Pooling;

    /// [`Pooling::Mean`].
    pub const MEAN: &str = Pooling::Mean.name();
    /// [`Pooling::Cls`].
    pub const CLS: &str = Pooling::Cls.name();
}

/// The names of the tensors in the weights file. For the shapes of a linear layer's tensors, see
/// `embedd_kernels::PackedShapes`.
pub mod tensor {
    /// Quantized word embeddings, int8 `[vocabulary, hidden]`.
    pub const WORD_EMBEDDINGS: &str = "word_embeddings";
    /// The scales of [`WORD_EMBEDDINGS`], float32 `[vocabulary, groups]`.
    pub const WORD_SCALES: &str = "word_embeddings/scale";
    /// Position embeddings, float32 `[positions, hidden]`.
    pub const POSITION_EMBEDDINGS: &str = "position_embeddings";
    /// The attention bias by head and distance, float32 `[heads, 2 * farthest + 1]`.
    pub const RELATIVE_ATTENTION_BIAS: &str = "relative_attention_bias";
    /// The prefix of the tensor names of the layer norm after the embeddings.
    pub const EMBEDDINGS: &str = "embeddings";

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

    /// The full name of a tensor: `prefix/part`.
    pub fn of(prefix: &str, part: &str) -> String {
        format!("{prefix}/{part}")
    }
}
