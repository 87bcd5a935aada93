//! Operations on single rows: embedding lookup, normalization, sums, gates and pooling.

mod combine;
mod pool;
mod rows;
#[cfg(test)]
mod tests;

use super::Activation;
use serde::{Deserialize, Serialize};

use super::{Kernels, Offsets, Parallel};
use combine::{AddRows, GateRows};
use rows::{EmbedRows, Lookup, NormRows};
pub(crate) use rows::{norm_row, share};

/// How a row is normalized before it is multiplied by a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Layer normalization: `(x - mean) / sqrt(variance + epsilon)` (Ba, Kiros and Hinton 2016).
    Layer,
    /// RMSNorm: `x / sqrt(mean(x^2) + epsilon)` (Zhang and Sennrich 2019).
    Rms,
}

/// Normalization over a row's channels. Weight and bias are `[channels]`.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the usual parameters of a normalization")]
pub struct Norm<'a> {
    pub kind: NormKind,
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    pub epsilon: f32,
}

/// How a token's row in the position table is determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionRule {
    /// Every token uses row 0: embeddings do not depend on the position.
    Constant,
    /// The n-th token of a text, counted from 0, uses row n.
    Sequential,
    /// The n-th token that is not `padding`, counted from 1, uses row `padding + n`; padding uses row `padding`.
    SkippingPadding {
        /// The id of the padding token.
        padding: usize,
    },
}

/// The tables that turn token ids into the hidden states for the first layer.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddingTables<'a> {
    /// int8 `[vocabulary, channels]`.
    pub words: &'a [i8],
    /// Scales of `words`, float32 `[vocabulary, groups]`.
    pub word_scales: &'a [f32],
    /// The number of channels that share a scale; the last group of a row may have fewer.
    pub word_group: usize,
    /// float32 `[positions, channels]`.
    pub positions: &'a [f32],
    /// How a token's row in `positions` is determined.
    pub position_rule: PositionRule,
    /// The channels of an embedding.
    pub channels: usize,
    /// Normalizes the sum of both embeddings.
    pub norm: Option<Norm<'a>>,
}

/// How the hidden states of a text become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolingRule {
    /// The mean over all tokens.
    Mean,
    /// The sum over all tokens, divided by the square root of their number.
    MeanSqrtLen,
    /// The mean over all tokens, the n-th of which, counted from 1, has weight n. Excluded tokens are counted.
    WeightedMean,
    /// The maximum of each channel over all tokens.
    Max,
    /// The hidden state of the first token, even if it is excluded.
    First,
    /// The hidden state of the last token.
    Last,
}

/// A token or its position is not in the embedding tables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("token {token} at position {position} is not in the model's embedding tables")]
pub struct TokenOutOfRange {
    /// The token's id.
    pub token: i64,
    /// The token's position in its text, counted from 0.
    pub position: usize,
}

impl Kernels {
    /// Computes the sum of word and position embeddings for `ids`, `[tokens]`, and normalizes it. `output` is float32
    /// `[tokens, channels]`.
    ///
    /// # Errors
    /// [`TokenOutOfRange`]; `output` is unchanged in this case.
    ///
    /// # Panics
    /// If a slice does not have its documented shape.
    pub fn embed(
        self,
        parallel: &dyn Parallel,
        ids: &[i64],
        offsets: &Offsets,
        tables: &EmbeddingTables<'_>,
        output: &mut [f32],
    ) -> Result<(), TokenOutOfRange> {
        let channels = tables.channels;
        assert!(tables.norm.is_none_or(|norm| norm.channels() == channels), "the norm must have [channels]");
        assert_eq!(ids.len(), offsets.tokens(), "there must be one id per token");
        assert_eq!(output.len(), ids.len() * channels, "the output must be [tokens, channels]");
        let groups = channels.div_ceil(tables.word_group);
        assert!(
            tables.words.len() / channels == tables.word_scales.len() / groups
                && tables.words.len().is_multiple_of(channels),
            "the words must be [vocabulary, channels], and their scales [vocabulary, groups]"
        );
        let lookups = tables.lookups(ids, offsets)?;
        share(parallel, output, channels, &|first, rows| {
            let lookups = &lookups[first..][..rows.len() / channels];
            self.dispatch(EmbedRows { tables, lookups, rows });
        });
        Ok(())
    }

    /// Pools the hidden states of each text by every rule, without the first `excluded` tokens, `[texts]`, unless a text
    /// has no others. `states` is float32 `[tokens, channels]`, `output` float32 `[texts, rules, channels]`.
    ///
    /// # Panics
    /// If a slice does not have its documented shape.
    pub fn pool(
        self,
        states: &[f32],
        offsets: &Offsets,
        excluded: &[usize],
        rules: &[PoolingRule],
        output: &mut [f32],
    ) {
        let vectors = offsets.texts().len() * rules.len();
        let channels = output.len() / vectors;
        assert_eq!(output.len(), vectors * channels, "the output must be [texts, rules, channels]");
        assert_eq!(states.len(), offsets.tokens() * channels, "the hidden states must be [tokens, channels]");
        assert_eq!(excluded.len(), offsets.texts().len(), "there must be one number per text");
        let texts = offsets.texts().zip(excluded);
        let vectors = texts.flat_map(|text| rules.iter().map(move |&rule| (text.clone(), rule)));
        for (((text, &excluded), rule), output) in vectors.zip(output.chunks_exact_mut(channels)) {
            let rows = &states[text.start * channels..text.end * channels];
            let excluded = if excluded < text.len() { excluded } else { 0 };
            self.dispatch(pool::Pool { rows, excluded, rule, output });
        }
    }

    /// Adds `residual` to `output`, both float32 `[tokens, channels]`, and normalizes the rows of `output` in place.
    ///
    /// # Panics
    /// If a slice does not have its documented shape.
    pub fn residual_norm(self, parallel: &dyn Parallel, residual: &[f32], norm: Norm<'_>, output: &mut [f32]) {
        let channels = norm.channels();
        assert_eq!(residual.len(), output.len(), "the residual must be [tokens, channels]");
        assert!(output.len().is_multiple_of(channels), "the output must be [tokens, channels]");
        share(parallel, output, channels, &|first, rows| {
            let residual = &residual[first * channels..][..rows.len()];
            self.dispatch(NormRows { residual, norm, rows });
        });
    }

    /// Normalizes the rows of `input`. Both slices are float32 `[tokens, channels]`.
    ///
    /// # Panics
    /// If a slice does not have its documented shape.
    pub fn norm(self, parallel: &dyn Parallel, input: &[f32], norm: Norm<'_>, output: &mut [f32]) {
        let channels = norm.channels();
        assert_eq!(input.len(), output.len(), "the input must be [tokens, channels]");
        assert!(output.len().is_multiple_of(channels), "the output must be [tokens, channels]");
        share(parallel, output, channels, &|first, rows| {
            rows.copy_from_slice(&input[first * channels..][..rows.len()]);
            self.dispatch(NormRows { residual: &[], norm, rows });
        });
    }

    /// Normalizes the rows of `rows`, float32 `[tokens, channels]`.
    ///
    /// # Panics
    /// If `rows` does not have its documented shape.
    pub fn norm_in_place(self, parallel: &dyn Parallel, norm: Norm<'_>, rows: &mut [f32]) {
        let channels = norm.channels();
        assert!(rows.len().is_multiple_of(channels), "the rows must be [tokens, channels]");
        share(parallel, rows, channels, &|_, rows| self.dispatch(NormRows { residual: &[], norm, rows }));
    }

    /// Adds `input` to `output`, both float32 `[tokens, channels]`.
    ///
    /// # Panics
    /// If the slices have different lengths.
    pub fn add(self, parallel: &dyn Parallel, input: &[f32], output: &mut [f32]) {
        assert_eq!(input.len(), output.len(), "the input and the output must have the same shape");
        share(parallel, output, 1, &|first, values| {
            let input = &input[first..][..values.len()];
            self.dispatch(AddRows { input, values });
        });
    }

    /// Computes `activation(x) * y` for every row of `input`, float32 `[tokens, 2, channels]`, which holds `x` and `y`.
    /// `output` is float32 `[tokens, channels]`.
    ///
    /// # Panics
    /// If a slice does not have its documented shape.
    pub fn gate(
        self,
        parallel: &dyn Parallel,
        activation: Activation,
        input: &[f32],
        channels: usize,
        output: &mut [f32],
    ) {
        assert_eq!(input.len(), 2 * output.len(), "the input must be [tokens, 2, channels]");
        assert!(output.len().is_multiple_of(channels), "the output must be [tokens, channels]");
        share(parallel, output, channels, &|first, rows| {
            let input = &input[2 * first * channels..][..2 * rows.len()];
            self.dispatch(GateRows { activation, input, channels, rows });
        });
    }

    /// Applies `activation` to every value.
    pub fn activate(self, activation: Activation, values: &mut [f32]) {
        self.dispatch(combine::Activate { activation, values });
    }
}

impl Norm<'_> {
    fn channels(&self) -> usize {
        assert_eq!(self.weight.len(), self.bias.len(), "the weight and bias of a normalization must be [channels]");
        self.weight.len()
    }
}

impl EmbeddingTables<'_> {
    /// Finds the rows of both tables for each token.
    fn lookups(&self, ids: &[i64], offsets: &Offsets) -> Result<Vec<Lookup>, TokenOutOfRange> {
        let words = self.words.len() / self.channels;
        let positions = self.positions.len() / self.channels;
        let mut lookups = Vec::with_capacity(ids.len());
        for text in offsets.texts() {
            let mut seen = 0;
            for (index, &token) in ids[text].iter().enumerate() {
                let out_of_range = TokenOutOfRange { token, position: index };
                let Some(word) = usize::try_from(token).ok().filter(|&word| word < words) else {
                    return Err(out_of_range);
                };
                let position = match self.position_rule {
                    PositionRule::Constant => 0,
                    PositionRule::Sequential => index,
                    PositionRule::SkippingPadding { padding } if word == padding => padding,
                    PositionRule::SkippingPadding { padding } => {
                        seen += 1;
                        padding + seen
                    }
                };
                if position >= positions {
                    return Err(out_of_range);
                }
                lookups.push(Lookup { word, position });
            }
        }
        Ok(lookups)
    }
}
