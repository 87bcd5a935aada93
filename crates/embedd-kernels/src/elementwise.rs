//! What happens to each row by itself: embedding lookup, normalisation, pooling.

mod pool;
mod rows;
#[cfg(test)]
mod tests;

use super::{Kernels, Offsets, Parallel};
use rows::{EmbedRows, NormRows, Place, share};

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
    /// float32 `[vocabulary, groups]`: of the words' integers.
    pub word_scales: &'a [f32],
    /// Channels that share a scale; the last group of a row may have fewer.
    pub word_group: usize,
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
    /// The normalised sum of word and position embeddings: `ids`, `[tokens]`, to `output`, float32
    /// `[tokens, channels]`.
    ///
    /// # Errors
    /// [`TokenOutOfRange`], before anything is written.
    ///
    /// # Panics
    /// Where the slices do not have these shapes.
    pub fn embed(
        self,
        parallel: &dyn Parallel,
        ids: &[i64],
        offsets: &Offsets,
        tables: &EmbeddingTables<'_>,
        output: &mut [f32],
    ) -> Result<(), TokenOutOfRange> {
        let channels = tables.norm.channels();
        assert_eq!(ids.len(), offsets.tokens(), "there is an id for each token");
        assert_eq!(output.len(), ids.len() * channels, "the output is [tokens, channels]");
        let groups = channels.div_ceil(tables.word_group);
        assert!(
            tables.words.len() / channels == tables.word_scales.len() / groups
                && tables.words.len().is_multiple_of(channels),
            "the words are [vocabulary, channels], and their scales [vocabulary, groups]"
        );
        let places = tables.places(ids, offsets)?;
        share(parallel, output, channels, &|first, rows| {
            let places = &places[first..][..rows.len() / channels];
            self.vectorize(EmbedRows { tables, places, rows });
        });
        Ok(())
    }

    /// One row for each text: `states`, float32 `[tokens, channels]`, to `output`, float32 `[texts, channels]`.
    ///
    /// # Panics
    /// Where the slices do not have these shapes.
    pub fn pool(self, states: &[f32], offsets: &Offsets, rule: PoolingRule, output: &mut [f32]) {
        let channels = output.len() / offsets.texts().len();
        assert_eq!(output.len(), offsets.texts().len() * channels, "the output is [texts, channels]");
        assert_eq!(states.len(), offsets.tokens() * channels, "the states are [tokens, channels]");
        for (text, output) in offsets.texts().zip(output.chunks_exact_mut(channels)) {
            let rows = &states[text.start * channels..text.end * channels];
            match rule {
                PoolingRule::First => output.copy_from_slice(&rows[..channels]),
                PoolingRule::Mean => self.vectorize(pool::Mean { rows, output }),
            }
        }
    }

    /// Adds `residual` to `output`, both float32 `[tokens, channels]`, and normalises the rows of `output` in place.
    ///
    /// # Panics
    /// Where the slices do not have these shapes.
    pub fn residual_norm(self, parallel: &dyn Parallel, residual: &[f32], norm: LayerNorm<'_>, output: &mut [f32]) {
        let channels = norm.channels();
        assert_eq!(residual.len(), output.len(), "the residual is [tokens, channels]");
        assert!(output.len().is_multiple_of(channels), "the output is [tokens, channels]");
        share(parallel, output, channels, &|first, rows| {
            let residual = &residual[first * channels..][..rows.len()];
            self.vectorize(NormRows { residual, norm, rows });
        });
    }
}

impl LayerNorm<'_> {
    /// How many there are.
    fn channels(&self) -> usize {
        assert_eq!(self.weight.len(), self.bias.len(), "a normalisation's weight and bias are [channels]");
        self.weight.len()
    }
}

impl EmbeddingTables<'_> {
    /// The rows of both tables for each token.
    fn places(&self, ids: &[i64], offsets: &Offsets) -> Result<Vec<Place>, TokenOutOfRange> {
        let (words, positions) = (self.words.len() / self.norm.channels(), self.positions.len() / self.norm.channels());
        let mut places = Vec::with_capacity(ids.len());
        for text in offsets.texts() {
            let mut seen = 0;
            for (place, &token) in ids[text].iter().enumerate() {
                let out_of_range = TokenOutOfRange { token, position: place };
                let Some(word) = usize::try_from(token).ok().filter(|&word| word < words) else {
                    return Err(out_of_range);
                };
                let position = match self.position_rule {
                    PositionRule::Sequential => place,
                    PositionRule::SkippingPadding { padding } if word == padding => padding,
                    PositionRule::SkippingPadding { padding } => {
                        seen += 1;
                        padding + seen
                    }
                };
                if position >= positions {
                    return Err(out_of_range);
                }
                places.push(Place { word, position });
            }
        }
        Ok(places)
    }
}
