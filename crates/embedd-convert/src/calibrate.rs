//! Looks at the inputs of linear layers, by running the float32 model on texts that are not the reference set.

use std::collections::BTreeMap;
use std::path::Path;

use half::f16;

use super::gptq::Rows;
use super::onnx::WriteError;
use super::portable::{LinearInput, observed_output};
use embedd_common::progress::{Progress, Unit};
use embedd_model::engine::{InferenceError, LoadError, OnnxRuntime, SessionOptions};
use embedd_model::tokenize::Truncation;
use embedd_model::tokenize::{TokenizeError, Tokenizer};

/// A few texts of every kind that detectors see; one a line. Written for this project.
const TEXTS: &str = include_str!("calibrate/texts.txt");

/// The first texts: they say which channels are large. All 205 would choose other exact channels for the portable
/// model, and its least cosine would be 0.99405 instead of 0.99533.
const TEXTS_FOR_CHANNELS: usize = 41;
/// Tokens whose inputs are kept: with the usual tokenisers there are no more. One of all-mpnet-base-v2 takes 129 kB.
const MOST_TOKENS: usize = 4096;
/// Tokens of one text whose inputs are kept: a few long texts are not to outweigh many short ones.
const MOST_TOKENS_OF_TEXT: usize = 48;

/// What was seen of the inputs of every linear layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Calibration(BTreeMap<(usize, LinearInput), Seen>);

/// What was seen of one input.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    /// The largest magnitude of every channel, in all tokens of some texts.
    largest: Vec<f32>,
    /// `[tokens, channels]`, of some tokens.
    rows: Vec<f16>,
}

/// Why a model could not be calibrated.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is the error of one step")]
pub enum CalibrateError {
    #[error("the model for calibration: {0}")]
    Write(#[from] WriteError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("a text for calibration {0}")]
    Tokenize(#[from] TokenizeError),
    #[error("calibration: {0}")]
    Inference(#[from] InferenceError),
}

impl Calibration {
    /// Runs an observed graph's model.
    ///
    /// # Errors
    /// [`CalibrateError`].
    pub(super) fn measure(
        runtime: &OnnxRuntime,
        model: &Path,
        layers: usize,
        tokenizer: &Tokenizer,
        options: SessionOptions,
        progress: &Progress,
    ) -> Result<Self, CalibrateError> {
        let keys: Vec<_> = (0..layers).flat_map(|layer| LinearInput::ALL.map(|input| (layer, input))).collect();
        let outputs = keys.iter().map(|&(layer, input)| observed_output(layer, input)).collect();
        let mut observer = runtime.observer(model, outputs, options)?;
        let texts: Vec<&str> = TEXTS.lines().collect();
        let task = progress.task("calibrating", Some(texts.len() as u64), Unit::Steps);
        let mut calibration = Self::default();
        for (index, text) in texts.into_iter().enumerate() {
            let tokens = tokenizer.tokenize(text, Truncation::End)?;
            for (&(layer, input), rows) in keys.iter().zip(observer.observe(&tokens.ids)?) {
                let channels = rows.len() / tokens.ids.len().max(1);
                if index < TEXTS_FOR_CHANNELS {
                    calibration.measure_channels(layer, input, channels, &rows);
                }
                calibration.keep(layer, input, channels, &rows);
            }
            task.advance(1);
        }
        task.finish();
        Ok(calibration)
    }

    /// Takes in the magnitudes of a text's `rows` of an input, `[tokens, channels]` row-major.
    pub(super) fn measure_channels(&mut self, layer: usize, input: LinearInput, channels: usize, rows: &[f32]) {
        let largest = &mut self.of(layer, input, channels).largest;
        for row in rows.chunks_exact(channels.max(1)) {
            largest.iter_mut().zip(row).for_each(|(largest, value)| *largest = largest.max(value.abs()));
        }
    }

    /// Keeps some of a text's `rows` of an input, `[tokens, channels]` row-major.
    pub(super) fn keep(&mut self, layer: usize, input: LinearInput, channels: usize, rows: &[f32]) {
        let kept = &mut self.of(layer, input, channels).rows;
        let rows = rows.chunks_exact(channels.max(1));
        let step = rows.len().div_ceil(MOST_TOKENS_OF_TEXT).max(1);
        let room = MOST_TOKENS * channels - kept.len();
        // What is beyond half precision's range is as good as its largest number here, and can be added up.
        let half = |value: &f32| f16::from_f32(value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()));
        kept.extend(rows.step_by(step).flatten().take(room).map(half));
    }

    fn of(&mut self, layer: usize, input: LinearInput, channels: usize) -> &mut Seen {
        // All at once, so that growing leaves no holes in memory.
        let rows = || Vec::with_capacity(MOST_TOKENS * channels);
        self.0.entry((layer, input)).or_insert_with(|| Seen { largest: vec![0.0; channels], rows: rows() })
    }

    /// The `count` largest channels of an input, at most a quarter of all, in ascending order.
    pub(super) fn largest_channels(&self, layer: usize, input: LinearInput, count: usize) -> Vec<usize> {
        let largest = self.largest(layer, input);
        let mut order: Vec<usize> = (0..largest.len()).collect();
        order.sort_by(|&a, &b| largest[b].total_cmp(&largest[a]).then(a.cmp(&b)));
        order.truncate(count.min(largest.len() / 4).max(1));
        order.sort_unstable();
        order
    }

    /// Channels of an input.
    pub(super) fn width(&self, layer: usize, input: LinearInput) -> usize {
        self.largest(layer, input).len()
    }

    /// The largest magnitude of every channel of an input.
    pub(super) fn largest(&self, layer: usize, input: LinearInput) -> &[f32] {
        self.0.get(&(layer, input)).map_or(&[], |seen| &seen.largest)
    }

    /// The rows of an input that were kept.
    pub(super) fn rows(&self, layer: usize, input: LinearInput) -> Rows<'_> {
        let values = self.0.get(&(layer, input)).map_or(&[][..], |seen| &seen.rows);
        Rows { values, channels: self.width(layer, input) }
    }
}

#[cfg(test)]
mod tests;
