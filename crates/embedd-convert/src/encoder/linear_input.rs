//! The distinct inputs of linear layers.

/// The input of one or more linear layers, in an encoder layer unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinearInput {
    /// The input of the projection of the embeddings. It belongs to no layer, and is listed with layer 0.
    Projection,
    /// The input of query, key and value.
    Attention,
    /// The input of attention's output projection.
    AttentionOutput,
    /// The input of the linear layers before the activation.
    Intermediate,
    /// The input of the linear layer after the activation.
    Output,
    /// The input of a Dense module. It belongs to no layer, and is listed with the module's number.
    Dense,
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
            Self::Dense => "dense",
        }
    }
}

/// The name of an observed graph's output that returns an input, float32 `[batch, sequence, channels]`, or
/// `[batch, channels]` for a Dense module.
pub(crate) fn observed_output(layer: usize, input: LinearInput) -> String {
    format!("observed/layer.{layer}/{}", input.part())
}
