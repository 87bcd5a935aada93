//! Finds the channels that are largest, by running the float32 model on texts that are not the reference set.

use std::collections::BTreeMap;
use std::path::Path;

use super::onnx::WriteError;
use super::portable::{LinearInput, observed_output};
use crate::engine::{InferenceError, LoadError, Observer, OnnxRuntime, SessionOptions};
use crate::progress::{Progress, Unit};
use crate::request::Truncation;
use crate::tokenize::{TokenizeError, Tokenizer};

/// A few texts of every kind that detectors see; one a line. Written for this project.
const TEXTS: &str = include_str!("calibrate/texts.txt");

/// The largest magnitude of every input channel of every linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration(BTreeMap<(usize, LinearInput), Vec<f32>>);

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
    /// Largest magnitudes that are known.
    pub(super) fn of(largest: BTreeMap<(usize, LinearInput), Vec<f32>>) -> Self {
        Self(largest)
    }

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
        let mut observer = Observer::load(runtime, model, outputs, options)?;
        let texts: Vec<&str> = TEXTS.lines().collect();
        let task = progress.task("calibrating", Some(texts.len() as u64), Unit::Steps);
        let mut largest: Vec<Vec<f32>> = vec![Vec::new(); keys.len()];
        for text in texts {
            let tokens = tokenizer.tokenize(text, Truncation::End)?;
            for (largest, seen) in largest.iter_mut().zip(observer.observe(&tokens.ids)?) {
                largest.resize(seen.len(), 0.0);
                largest.iter_mut().zip(seen).for_each(|(largest, seen)| *largest = largest.max(seen));
            }
            task.advance(1);
        }
        task.finish();
        Ok(Self::of(keys.into_iter().zip(largest).collect()))
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
        self.0.get(&(layer, input)).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_channels_are_found_and_are_few() {
        let largest = vec![0.5, 9.0, 1.0, 8.0, 0.0, 2.0, 3.0, 0.1];
        let calibration = Calibration::of([((0, LinearInput::Output), largest)].into());
        assert_eq!(calibration.largest_channels(0, LinearInput::Output, 1), [1]);
        assert_eq!(calibration.largest_channels(0, LinearInput::Output, 32), [1, 3], "a quarter at most");
        assert_eq!(calibration.width(0, LinearInput::Output), 8);
    }
}
