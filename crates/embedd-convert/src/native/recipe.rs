//! The numbers of the native model's quantisation, in one place. What each gains and costs is in
//! `docs/QUANTIZATION.md`.

use crate::portable::LinearInput;
use embedd_kernels::RowLayout;

/// How the native model is quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NativeRecipe {
    /// Of query, key and value.
    pub(super) attention: InputRecipe,
    /// Of attention's output.
    pub(super) attention_output: InputRecipe,
    /// Of the layer before GELU.
    pub(super) intermediate: InputRecipe,
    /// Of the layer behind GELU.
    pub(super) output: InputRecipe,
    /// Channels of a word's embedding that share a scale.
    pub(super) word_group: usize,
}

/// How the input of linear layers and their weights are quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InputRecipe {
    /// Channels that get 16 bits: the first ones, at most a quarter of all.
    pub(super) split: usize,
    /// Channels of a group of the others.
    pub(super) group: usize,
    /// Whether a few weights may be clipped where that leaves less error for all.
    pub(super) clip: bool,
}

impl Default for NativeRecipe {
    fn default() -> Self {
        let outlying = InputRecipe { split: 16, group: 128, clip: true };
        Self {
            attention: outlying,
            attention_output: InputRecipe { split: 0, ..outlying },
            intermediate: outlying,
            output: outlying,
            word_group: 64,
        }
    }
}

impl NativeRecipe {
    pub(super) fn input(&self, input: LinearInput) -> &InputRecipe {
        match input {
            LinearInput::Attention => &self.attention,
            LinearInput::AttentionOutput => &self.attention_output,
            LinearInput::Intermediate => &self.intermediate,
            LinearInput::Output => &self.output,
        }
    }
}

impl InputRecipe {
    /// For rows of so many channels.
    pub(super) fn layout(&self, inputs: usize) -> RowLayout {
        RowLayout { inputs, split: self.split.min(inputs / 4), group: self.group }
    }
}
