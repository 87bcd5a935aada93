//! The distinct inputs of an encoder layer's linear layers.

/// The input of one or more linear layers of an encoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinearInput {
    /// Of query, key and value.
    Attention,
    /// Of attention's output projection.
    AttentionOutput,
    /// Of the linear layer before GELU.
    Intermediate,
    /// Of the linear layer after GELU.
    Output,
}

impl LinearInput {
    /// All inputs of a layer, in order.
    pub(crate) const ALL: [Self; 4] = [Self::Attention, Self::AttentionOutput, Self::Intermediate, Self::Output];

    /// The part of a layer that the names in graphs use for this input.
    pub(crate) fn part(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::AttentionOutput => "attention/output",
            Self::Intermediate => "intermediate",
            Self::Output => "output",
        }
    }
}

/// The output of an observed graph that holds an input, float32 `[batch, sequence, channels]`.
pub(crate) fn observed_output(layer: usize, input: LinearInput) -> String {
    format!("observed/layer.{layer}/{}", input.part())
}
