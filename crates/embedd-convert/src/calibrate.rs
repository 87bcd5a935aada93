//! Observes the inputs of linear layers by running the float32 model on texts that are not in the reference set.

use std::collections::BTreeMap;
use std::path::Path;

use half::f16;

use super::encoder::{LinearInput, observed_output};
use super::gptq::Rows;
use embedd_common::progress::{Progress, Unit};
use embedd_model::engine::{InferenceError, LoadError, OnnxRuntime, SessionOptions, TokenIds};
use embedd_model::tokenize::{Tokenizer, Truncation};

mod selection;

/// The number of texts, from the start of the file, that determine the largest channels. All 205 texts would select other
/// exact channels for the portable model. Rounded to nearest, its minimum cosine was 0.99405 then, instead of 0.99533.
const TEXTS_FOR_CHANNELS: usize = 41;
/// Maximum number of tokens whose inputs are kept. Each token of all-mpnet-base-v2 takes 129 kB.
const MAX_TOKENS: usize = 4096;
/// Maximum number of tokens per text, so that a few long texts do not outweigh many short ones. It is less if the texts
/// have too many tokens for [`MAX_TOKENS`].
const MAX_TOKENS_PER_TEXT: usize = 48;

/// Observations of the inputs of all linear layers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Calibration(BTreeMap<(usize, LinearInput), Observed>);

/// Observations of one input.
#[derive(Debug, Clone, PartialEq)]
struct Observed {
    /// The largest magnitude of each channel over all tokens of the first texts.
    largest: Vec<f32>,
    /// The inputs of some tokens, `[tokens, channels]`.
    rows: Vec<f16>,
}

/// Why a model could not be calibrated.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is the error of one step")]
pub enum CalibrateError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("calibration failed: {0}")]
    Inference(#[from] InferenceError),
}

/// The ids of a calibration text. Tokenizers for something other than language, such as DNA, may have no tokens for it:
/// then those of the vocabulary take their place.
fn ids(tokenizer: &Tokenizer, text: &str, index: usize) -> TokenIds {
    match tokenizer.tokenize(text, Truncation::End) {
        Ok(tokens) if text.trim().is_empty() || tokens.ids.len() > tokenizer.special_count() => tokens.ids,
        _ => {
            let tokens = MAX_TOKENS_PER_TEXT.min(tokenizer.max_tokens());
            tokenizer.sample_ids(tokens, index * tokens)
        }
    }
}

/// The number of tokens of which one is kept, so that at most `count` of `tokens` are.
fn step(tokens: usize, count: usize) -> usize {
    tokens.div_ceil(count).max(1)
}

/// The maximum number of tokens per text with which all texts are represented.
fn tokens_per_text(lengths: &[usize]) -> usize {
    let kept = |count: usize| lengths.iter().map(|&tokens| tokens.div_ceil(step(tokens, count))).sum::<usize>();
    (1..=MAX_TOKENS_PER_TEXT).rev().find(|&count| kept(count) <= MAX_TOKENS).unwrap_or(1)
}

impl Calibration {
    /// Runs `model`, which has an observed graph, on the calibration texts. Each input comes with its number of channels.
    ///
    /// # Errors
    /// [`CalibrateError`].
    pub(super) fn measure(
        runtime: &OnnxRuntime,
        model: &Path,
        inputs: &[((usize, LinearInput), usize)],
        tokenizer: &Tokenizer,
        options: SessionOptions,
        progress: &Progress,
    ) -> Result<Self, CalibrateError> {
        let outputs = inputs.iter().map(|&((layer, input), _)| observed_output(layer, input)).collect();
        let mut observer = runtime.observer(model, outputs, options)?;
        let texts = selection::texts(tokenizer).into_iter().enumerate();
        let texts: Vec<TokenIds> = texts.map(|(index, text)| ids(tokenizer, text, index)).collect();
        let lengths: Vec<usize> = texts.iter().map(TokenIds::len).collect();
        let per_text = tokens_per_text(&lengths);
        let task = progress.task("calibrating", Some(texts.len() as u64), Unit::Steps);
        let mut calibration = Self::default();
        for (index, ids) in texts.iter().enumerate() {
            for (&((layer, input), channels), rows) in inputs.iter().zip(observer.observe(ids)?) {
                if index < TEXTS_FOR_CHANNELS {
                    calibration.measure_channels(layer, input, channels, &rows);
                }
                calibration.keep(layer, input, channels, &rows, per_text);
            }
            task.advance(1);
        }
        task.finish();
        Ok(calibration)
    }

    /// Updates the largest magnitudes of an input's channels with `rows` of one text, `[tokens, channels]` row-major.
    pub(super) fn measure_channels(&mut self, layer: usize, input: LinearInput, channels: usize, rows: &[f32]) {
        let largest = &mut self.of(layer, input, channels).largest;
        for row in rows.chunks_exact(channels.max(1)) {
            largest.iter_mut().zip(row).for_each(|(largest, value)| *largest = largest.max(value.abs()));
        }
    }

    /// Keeps at most `count` of an input's `rows` of one text, `[tokens, channels]` row-major.
    pub(super) fn keep(&mut self, layer: usize, input: LinearInput, channels: usize, rows: &[f32], count: usize) {
        let kept = &mut self.of(layer, input, channels).rows;
        let rows = rows.chunks_exact(channels.max(1));
        let step = step(rows.len(), count);
        let capacity = MAX_TOKENS * channels - kept.len();
        // Values beyond the range of half precision are clamped: infinities would spoil sums.
        let half = |value: &f32| f16::from_f32(value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()));
        kept.extend(rows.step_by(step).flatten().take(capacity).map(half));
    }

    fn of(&mut self, layer: usize, input: LinearInput, channels: usize) -> &mut Observed {
        // Allocated at full capacity: growing would fragment memory.
        let rows = || Vec::with_capacity(MAX_TOKENS * channels);
        self.0.entry((layer, input)).or_insert_with(|| Observed { largest: vec![0.0; channels], rows: rows() })
    }

    /// The channels of an input by descending largest magnitude.
    pub(super) fn by_magnitude(&self, layer: usize, input: LinearInput) -> Vec<usize> {
        let largest = self.largest(layer, input);
        let mut order: Vec<usize> = (0..largest.len()).collect();
        order.sort_by(|&a, &b| largest[b].total_cmp(&largest[a]));
        order
    }

    /// The number of channels of an input.
    pub(super) fn width(&self, layer: usize, input: LinearInput) -> usize {
        self.largest(layer, input).len()
    }

    /// The largest magnitude of each channel of an input.
    pub(super) fn largest(&self, layer: usize, input: LinearInput) -> &[f32] {
        self.0.get(&(layer, input)).map_or(&[], |observed| &observed.largest)
    }

    /// The kept rows of an input.
    pub(super) fn rows(&self, layer: usize, input: LinearInput) -> Rows<'_> {
        let values = self.0.get(&(layer, input)).map_or(&[][..], |observed| &observed.rows);
        Rows { values, channels: self.width(layer, input) }
    }
}

#[cfg(test)]
mod tests;
