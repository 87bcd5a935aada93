//! What happens to each row by itself: embedding lookup, normalisation, GELU, pooling.

use super::{Kernels, Offsets, Parallel};

/// Normalisation over a row's channels: weight and bias `[channels]`.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the parts of a layer normalisation")]
pub struct LayerNorm<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    pub epsilon: f32,
}

/// Which row of the position table a token has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionRule {
    /// The n-th token of a text has row n.
    Sequential,
    /// The n-th token that is not `padding`, counted from 1, has row `padding + n`; padding has row `padding`.
    SkippingPadding {
        /// The padding token's id.
        padding: usize,
    },
}

/// What turns token ids into the states that the first layer takes.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddingTables<'a> {
    /// int8 `[vocabulary, channels]`.
    pub words: &'a [i8],
    /// float32 `[vocabulary]`: of the words' integers.
    pub word_scales: &'a [f32],
    /// float32 `[positions, channels]`.
    pub positions: &'a [f32],
    /// Which row of `positions` a token has.
    pub position_rule: PositionRule,
    /// Over the sum of both.
    pub norm: LayerNorm<'a>,
}

/// How a text's rows become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolingRule {
    /// Their mean.
    Mean,
    /// The first.
    First,
}

/// A token that the tables do not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the token {token} at position {position} is beyond the model's tables")]
pub struct TokenOutOfRange {
    /// Its id.
    pub token: i64,
    /// Its place in its text.
    pub position: usize,
}

impl Kernels {
    /// The normalised sum of word and position embeddings: `ids`, `[tokens]`, to `output`, float32 `[tokens, channels]`.
    ///
    /// # Errors
    /// [`TokenOutOfRange`].
    ///
    /// # Panics
    /// Where the slices do not have these shapes.
    pub fn embed(
        self,
        _parallel: &dyn Parallel,
        ids: &[i64],
        offsets: &Offsets,
        tables: &EmbeddingTables<'_>,
        output: &mut [f32],
    ) -> Result<(), TokenOutOfRange> {
        let channels = tables.norm.weight.len();
        assert_eq!(output.len(), ids.len() * channels, "the output is [tokens, channels]");
        for text in offsets.texts() {
            let mut seen = 0;
            for (position, at) in text.enumerate() {
                let out_of_range = TokenOutOfRange { token: ids[at], position };
                let id = usize::try_from(ids[at]).map_err(|_| out_of_range.clone())?;
                let row = match tables.position_rule {
                    PositionRule::Sequential => position,
                    PositionRule::SkippingPadding { padding } if id == padding => padding,
                    PositionRule::SkippingPadding { padding } => {
                        seen += 1;
                        padding + seen
                    }
                };
                let scale = *tables.word_scales.get(id).ok_or(out_of_range.clone())?;
                let words = &tables.words[id * channels..][..channels];
                let positions = tables.positions.get(row * channels..(row + 1) * channels).ok_or(out_of_range)?;
                let output = &mut output[at * channels..][..channels];
                for ((out, &word), position) in output.iter_mut().zip(words).zip(positions) {
                    *out = f32::from(word) * scale + position;
                }
                plain_norm(output, tables.norm);
            }
        }
        Ok(())
    }

    /// One row for each text: `states`, float32 `[tokens, channels]`, to `output`, float32 `[texts, channels]`.
    ///
    /// # Panics
    /// Where the slices do not have these shapes.
    pub fn pool(self, states: &[f32], offsets: &Offsets, rule: PoolingRule, output: &mut [f32]) {
        let channels = states.len() / offsets.tokens();
        assert_eq!(output.len(), offsets.texts().len() * channels, "the output is [texts, channels]");
        for (text, output) in offsets.texts().zip(output.chunks_exact_mut(channels)) {
            match rule {
                PoolingRule::First => output.copy_from_slice(&states[text.start * channels..][..channels]),
                PoolingRule::Mean => {
                    let count = text.len() as f32;
                    output.fill(0.0);
                    for row in text {
                        let row = &states[row * channels..][..channels];
                        output.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                    }
                    output.iter_mut().for_each(|sum| *sum /= count);
                }
            }
        }
    }

    pub(super) fn residual_norm(
        self,
        _parallel: &dyn Parallel,
        residual: &[f32],
        norm: LayerNorm<'_>,
        output: &mut [f32],
    ) {
        assert_eq!(residual.len(), output.len(), "the residual is [tokens, outputs]");
        output.iter_mut().zip(residual).for_each(|(sum, value)| *sum += value);
        output.chunks_exact_mut(norm.weight.len()).for_each(|row| plain_norm(row, norm));
    }
}

fn plain_norm(row: &mut [f32], norm: LayerNorm<'_>) {
    let count = row.len() as f32;
    let mean = row.iter().sum::<f32>() / count;
    let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / count;
    let factor = 1.0 / (variance + norm.epsilon).sqrt();
    for ((x, weight), bias) in row.iter_mut().zip(norm.weight).zip(norm.bias) {
        *x = (*x - mean) * factor * weight + bias;
    }
}
