//! The distinct inputs of an encoder layer's linear layers.

/// The input of one or more linear layers of an encoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinearInput {
    /// The input of the projection of the embeddings. It belongs to no layer, and is listed with layer 0.
    Projection,
    /// The input of query, key and value.
    Attention,
    /// The input of attention's output projection.
    AttentionOutput,
    /// The input of the linear layer before the activation.
    Intermediate,
    /// The input of the linear layer after the activation.
    Output,
}

impl LinearInput {
    /// The inputs of a layer, in order.
    pub(crate) const OF_LAYER: [Self; 4] = [Self::Attention, Self::AttentionOutput, Self::Intermediate, Self::Output];

    /// The part of names in graphs that identifies this input within a layer.
    pub(crate) fn part(self) -> &'static str {
        match self {
            Self::Projection => "projection",
            Self::Attention => "attention",
            Self::AttentionOutput => "attention/output",
            Self::Intermediate => "intermediate",
            Self::Output => "output",
        }
    }
}

/// The name of an observed graph's output that returns an input, float32 `[batch, sequence, channels]`.
pub(crate) fn observed_output(layer: usize, input: LinearInput) -> String {
    format!("observed/layer.{layer}/{}", input.part())
}
