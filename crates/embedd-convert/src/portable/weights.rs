//! The INT8 weights of the portable model.

use std::collections::BTreeMap;

use crate::calibrate::Calibration;
use crate::encoder::{Encoder, Linear};
use crate::rounding::{InputPlan, Key, RoundedLayers, Rounding};
use crate::weights::WeightsError;
use embedd_common::progress::Progress;

/// The number of input channels of each linear layer that stay exact, but at most a quarter of all. More channels cost
/// time and space; fewer cost accuracy.
const EXACT_CHANNELS: usize = 32;

/// Rounded weights with a scale per output. Some channels of each input stay exact.
pub(crate) struct PerTokenWeights<'w> {
    encoder: &'w Encoder<'w>,
    channels: BTreeMap<Key, Channels>,
    rounded: RoundedLayers,
}

/// The channels of an input. Their weights are in the same order in [`RoundedLayers`].
struct Channels {
    /// By descending magnitude: large errors are compensated for by more channels.
    rounded: Vec<usize>,
    /// In ascending order.
    exact: Vec<usize>,
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
        let channels: BTreeMap<_, _> = keys.map(|key| (key, Channels::of(calibration, key))).collect();
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
        let mut integers = vec![0; self.inputs(key) * outputs];
        let rows = self.columns(key, linear, &self.rounded[&key].integers);
        for (&channel, row) in self.channels[&key].rounded.iter().zip(rows) {
            integers[channel * outputs..][..outputs].copy_from_slice(row);
        }
        integers
    }

    /// The scale of each output of a linear layer.
    pub(super) fn scales(&self, key: Key, linear: &Linear<'_>) -> Vec<f32> {
        self.columns(key, linear, &self.rounded[&key].scales).flatten().copied().collect()
    }

    /// A linear layer's weights of the exact channels, `[exact channels, outputs]`.
    pub(super) fn exact_weights(&self, key: Key, linear: &Linear<'_>) -> Vec<f32> {
        self.columns(key, linear, &self.rounded[&key].exact).flatten().copied().collect()
    }

    /// The part of each row that belongs to one of the linear layers with this input.
    fn columns<'v, T>(&self, key: Key, linear: &Linear<'_>, rows: &'v [T]) -> impl Iterator<Item = &'v [T]> {
        let linears = self.encoder.linears(key).into_iter();
        let start: usize = linears.take_while(|other| !std::ptr::eq(*other, linear)).map(Linear::outputs).sum();
        let columns = start..start + linear.outputs();
        rows.chunks_exact(self.rounded[&key].outputs).map(move |row| &row[columns.clone()])
    }
}

impl Channels {
    fn of(calibration: &Calibration, (layer, input): Key) -> Self {
        let mut exact = calibration.by_magnitude(layer, input);
        let count = EXACT_CHANNELS.min(exact.len() / 4).max(1).min(exact.len());
        let rounded = exact.split_off(count);
        exact.sort_unstable();
        Self { rounded, exact }
    }

    /// One scale for all channels that are rounded. The exact ones, which come last, compensate for the errors of all.
    fn plan(&self) -> InputPlan {
        let rounded = 0..self.rounded.len();
        let order = [&self.rounded[..], &self.exact].concat();
        InputPlan { order, groups: std::iter::once(rounded).collect(), clip: true }
    }
}

#[cfg(test)]
mod tests;
