//! The INT8 weights of the portable model.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::calibrate::Calibration;
use crate::encoder::{Encoder, Linear};
use crate::rounding::{InputPlan, Key, RoundedLayers, Rounding};
use crate::weights::WeightsError;
use embedd_common::progress::Progress;

/// The number of input channels of each linear layer that stay exact. More channels cost time and space; fewer cost
/// accuracy.
const EXACT_CHANNELS: usize = 32;

/// Rounded weights with a scale per output. Each input has some channels that stay exact.
pub(crate) struct PerTokenWeights<'w> {
    encoder: &'w Encoder<'w>,
    channels: BTreeMap<Key, Channels>,
    rounded: RoundedLayers,
}

/// The channels of an input.
struct Channels {
    /// In ascending order.
    exact: Vec<usize>,
    /// In the order of rounding.
    rounded: Vec<usize>,
}

impl<'w> PerTokenWeights<'w> {
    /// Rounds the weights of an encoder.
    ///
    /// # Errors
    /// [`WeightsError`] if weights cannot be read.
    pub(crate) fn round(
        encoder: &'w Encoder<'w>,
        calibration: &Calibration,
        progress: &Progress,
    ) -> Result<Self, WeightsError> {
        let keys = encoder.linear_inputs().into_iter();
        let channels: BTreeMap<_, _> = keys.map(|key| (key, Channels::of(encoder, calibration, key))).collect();
        let rounding = Rounding { model: "portable", encoder, calibration, progress };
        let rounded = rounding.round(|key| channels[&key].plan())?;
        Ok(Self { encoder, channels, rounded })
    }

    /// The number of channels of an input.
    pub(super) fn inputs(&self, key: Key) -> usize {
        let channels = &self.channels[&key];
        channels.exact.len() + channels.rounded.len()
    }

    /// The exact channels of an input, in ascending order.
    pub(super) fn exact(&self, key: Key) -> &[usize] {
        &self.channels[&key].exact
    }

    /// `[inputs, outputs]` of a linear layer, in the order of the source. The rows of exact channels are 0.
    pub(super) fn integers(&self, key: Key, linear: &Linear<'_>) -> Vec<i8> {
        let outputs = linear.outputs();
        let columns = self.columns(key, linear);
        let rounded = &self.rounded[&key];
        let mut integers = vec![0; self.inputs(key) * outputs];
        let rows = rounded.integers.chunks_exact(rounded.outputs);
        for (&channel, row) in self.channels[&key].rounded.iter().zip(rows) {
            integers[channel * outputs..][..outputs].copy_from_slice(&row[columns.clone()]);
        }
        integers
    }

    /// The scale of each output of a linear layer.
    pub(super) fn scales(&self, key: Key, linear: &Linear<'_>) -> Vec<f32> {
        self.rounded[&key].scales[self.columns(key, linear)].to_vec()
    }

    /// The place of a linear layer's outputs among those of all linear layers with the same input.
    fn columns(&self, key: Key, linear: &Linear<'_>) -> Range<usize> {
        let linears = self.encoder.linears(key).into_iter();
        let start = linears.take_while(|other| !std::ptr::eq(*other, linear)).map(Linear::outputs).sum();
        start..start + linear.outputs()
    }
}

impl Channels {
    fn of(encoder: &Encoder<'_>, calibration: &Calibration, key: Key) -> Self {
        let inputs = encoder.linears(key)[0].inputs();
        let exact = calibration.largest_channels(key.0, key.1, EXACT_CHANNELS);
        let rounded = (0..inputs).filter(|channel| exact.binary_search(channel).is_err()).collect();
        Self { exact, rounded }
    }

    /// One scale for all channels that are not exact.
    fn plan(&self) -> InputPlan {
        let order = self.rounded.clone();
        InputPlan { groups: std::iter::once(0..order.len()).collect(), order, clip: true }
    }
}

#[cfg(test)]
mod tests;
