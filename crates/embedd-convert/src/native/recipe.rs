//! The parameters of the native model's quantization. `docs/QUANTIZATION.md` describes their effects.

use crate::encoder::LinearInput;
use embedd_kernels::RowLayout;

/// How the native model is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NativeRecipe {
    /// For query, key and value.
    pub(super) attention: InputRecipe,
    /// For attention's output projection.
    pub(super) attention_output: InputRecipe,
    /// For the linear layer before GELU.
    pub(super) intermediate: InputRecipe,
    /// For the linear layer after GELU.
    pub(super) output: InputRecipe,
    /// Channels of a word embedding that share a scale.
    pub(super) word_group: usize,
}

/// How the weights and the input of linear layers are quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InputRecipe {
    /// The number of 16-bit channels. They come first, and are at most a quarter of all channels.
    pub(super) split: usize,
    /// Group size of the other channels.
    pub(super) group: usize,
    /// Whether to clip weights where that reduces the total error.
    pub(super) clip: bool,
}

impl Default for NativeRecipe {
    fn default() -> Self {
        let with_outliers = InputRecipe { split: 16, group: 128, clip: true };
        Self {
            attention: with_outliers,
            attention_output: InputRecipe { split: 0, ..with_outliers },
            intermediate: with_outliers,
            output: with_outliers,
            word_group: 64,
        }
    }
}

impl NativeRecipe {
    pub(super) fn input(&self, input: LinearInput) -> &InputRecipe {
        match input {
            LinearInput::Attention => &self.attention,
            LinearInput::Projection | LinearInput::AttentionOutput | LinearInput::Dense => &self.attention_output,
            LinearInput::Intermediate => &self.intermediate,
            LinearInput::Output => &self.output,
        }
    }
}

impl InputRecipe {
    /// The layout of activations with this number of channels.
    pub(super) fn layout(&self, inputs: usize) -> RowLayout {
        RowLayout { inputs, split: self.split.min(inputs / 4), group: self.group }
    }
}
