//! The order of channels.
//!
//! The channels of the hidden states can be in any order, as long as all tensors that involve them use the same order:
//! the columns of the embedding tables, layer norms, the inputs of some linear layers and the outputs of others.
//! Reordering costs nothing at run time. It puts the outlier channels, which get 16 bits, next to each other and groups
//! the other channels by magnitude. The neurons between the two linear layers around GELU have a separate order in each
//! layer.

use std::sync::Arc;

use crate::calibrate::Calibration;
use crate::encoder::{Encoder, LinearInput};

/// The channel at each position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChannelOrder {
    /// The order of the source.
    Source,
    /// An explicit order.
    Channels(Vec<usize>),
}

/// The orders of an encoder: by descending magnitude in calibration. Outlier channels, which need 16 bits, come first,
/// and channels of similar magnitude share a group.
pub(super) struct Orders {
    hidden: Arc<ChannelOrder>,
    /// The orders of the neurons, by layer.
    inner: Vec<Arc<ChannelOrder>>,
    /// The order of a pooled vector.
    pooled: Arc<ChannelOrder>,
    /// The index of the first Dense module, whose input is a pooled vector.
    first_dense: Option<usize>,
}

impl Orders {
    pub(super) fn of(calibration: &Calibration, encoder: &Encoder<'_>) -> Self {
        let layers = encoder.layers.len();
        let descending = |numbers: &[f32]| Arc::new(ChannelOrder::descending(numbers));
        let hidden = descending(&relative_magnitudes(calibration, layers));
        Self {
            pooled: Arc::new(hidden.repeated(encoder.hidden_size, encoder.pooling.modes().len())),
            first_dense: encoder.modules.iter().position(|module| module.dense().is_some()),
            hidden,
            inner: (0..layers).map(|layer| descending(calibration.largest(layer, LinearInput::Output))).collect(),
        }
    }

    /// The order of the hidden states.
    pub(super) fn hidden(&self) -> Arc<ChannelOrder> {
        Arc::clone(&self.hidden)
    }

    /// The order of a pooled vector's components: that of the hidden states, for each pooling mode.
    pub(super) fn pooled(&self) -> Arc<ChannelOrder> {
        Arc::clone(&self.pooled)
    }

    /// The order of a layer's neurons.
    pub(super) fn inner(&self, layer: usize) -> Arc<ChannelOrder> {
        Arc::clone(&self.inner[layer])
    }

    /// The order of the input of linear layers.
    pub(super) fn of_input(&self, layer: usize, input: LinearInput) -> Arc<ChannelOrder> {
        match input {
            LinearInput::Attention | LinearInput::Intermediate => self.hidden(),
            LinearInput::Dense if self.first_dense == Some(layer) => self.pooled(),
            LinearInput::Projection | LinearInput::AttentionOutput | LinearInput::Dense => {
                Arc::new(ChannelOrder::Source)
            }
            LinearInput::Output => self.inner(layer),
        }
    }
}

/// The largest magnitude of each channel in calibration, relative to the median channel of the same input; the maximum
/// over all layers.
fn relative_magnitudes(calibration: &Calibration, layers: usize) -> Vec<f32> {
    let mut maxima: Vec<f32> = Vec::new();
    for layer in 0..layers {
        for input in [LinearInput::Attention, LinearInput::Intermediate] {
            let largest = calibration.largest(layer, input);
            let median = median(largest);
            maxima.resize(largest.len(), 0.0);
            maxima.iter_mut().zip(largest).for_each(|(max, largest)| *max = max.max(largest / median));
        }
    }
    maxima
}

/// The median, but at least the smallest positive number, so that it can be a divisor.
fn median(values: &[f32]) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(1.0).max(f32::MIN_POSITIVE)
}

impl ChannelOrder {
    /// Sorts channels by descending number. The sort is stable.
    pub(super) fn descending(numbers: &[f32]) -> Self {
        let mut channels: Vec<usize> = (0..numbers.len()).collect();
        channels.sort_by(|&a, &b| numbers[b].total_cmp(&numbers[a]));
        if channels.is_sorted() { Self::Source } else { Self::Channels(channels) }
    }

    pub(super) fn channel(&self, position: usize) -> usize {
        match self {
            Self::Source => position,
            Self::Channels(channels) => channels[position],
        }
    }

    /// The channels at the first `count` positions.
    pub(super) fn channels(&self, count: usize) -> Vec<usize> {
        (0..count).map(|position| self.channel(position)).collect()
    }

    /// The order of several times the first `count` channels, one after the other.
    pub(super) fn repeated(&self, count: usize, times: usize) -> Self {
        match self {
            Self::Source => Self::Source,
            Self::Channels(channels) => {
                Self::Channels((0..times).flat_map(|time| channels.iter().map(move |at| time * count + at)).collect())
            }
        }
    }

    /// The position of each channel; `None` for the order of the source.
    pub(super) fn positions(&self) -> Option<Vec<usize>> {
        let Self::Channels(channels) = self else { return None };
        let mut positions = vec![0; channels.len()];
        channels.iter().enumerate().for_each(|(position, &channel)| positions[channel] = position);
        Some(positions)
    }

    /// The values of `rows`, whose channels are in the order of the source, with each row in this order.
    pub(super) fn apply_to_rows<T: Copy>(&self, rows: &[T]) -> impl Iterator<Item = T> {
        let width = match self {
            Self::Source => rows.len(),
            Self::Channels(channels) => channels.len(),
        };
        let rows = rows.chunks_exact(width.max(1));
        rows.flat_map(move |row| (0..width).map(move |position| row[self.channel(position)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_in_descending_order_and_their_positions_undo_it() {
        let order = ChannelOrder::descending(&[1.0, 5.0, 3.0, 5.0]);
        assert_eq!(order, ChannelOrder::Channels(vec![1, 3, 2, 0]));
        let row = [10, 11, 12, 13, 20, 21, 22, 23];
        let ordered: Vec<_> = order.apply_to_rows(&row).collect();
        assert_eq!(ordered, [11, 13, 12, 10, 21, 23, 22, 20]);
        let back = ChannelOrder::Channels(order.positions().expect("an explicit order"));
        assert_eq!(back.apply_to_rows(&ordered).collect::<Vec<_>>(), row);
    }

    #[test]
    fn channels_already_in_descending_order_keep_the_order_of_the_source() {
        assert_eq!(ChannelOrder::descending(&[3.0, 2.0, 2.0]), ChannelOrder::Source);
        assert_eq!(ChannelOrder::Source.positions(), None);
        assert_eq!(ChannelOrder::Source.apply_to_rows(&[1, 2, 3]).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
