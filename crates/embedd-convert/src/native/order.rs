//! The order in which channels stand.
//!
//! The channels of the states can stand in any order, as long as every tensor that touches them follows: the columns
//! of the embedding tables, normalisations, the inputs of some linear layers and the outputs of others. It costs
//! nothing at run time, so outlying channels are put together, where 16 bits are, and the others with their like. The
//! neurons between the two linear layers around GELU can stand in an order of their own in each layer.

use std::sync::Arc;

use crate::calibrate::Calibration;
use crate::portable::LinearInput;

/// Which channel stands at each place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChannelOrder {
    /// Each at its own, as in the source.
    Models,
    /// These.
    Channels(Vec<usize>),
}

/// The orders of one encoder: the largest channels in calibration first, those that need 16 bits, then groups of
/// channels of like size.
pub(super) struct Orders {
    hidden: Arc<ChannelOrder>,
    /// Of each layer.
    inner: Vec<Arc<ChannelOrder>>,
}

impl Orders {
    pub(super) fn of(calibration: &Calibration, layers: usize) -> Self {
        let descending = |numbers: &[f32]| Arc::new(ChannelOrder::descending(numbers));
        Self {
            hidden: descending(&hidden_outlyingness(calibration, layers)),
            inner: (0..layers).map(|layer| descending(calibration.largest(layer, LinearInput::Output))).collect(),
        }
    }

    /// Of the states.
    pub(super) fn hidden(&self) -> Arc<ChannelOrder> {
        Arc::clone(&self.hidden)
    }

    /// Of a layer's neurons.
    pub(super) fn inner(&self, layer: usize) -> Arc<ChannelOrder> {
        Arc::clone(&self.inner[layer])
    }

    /// Of the input of linear layers.
    pub(super) fn of_input(&self, layer: usize, input: LinearInput) -> Arc<ChannelOrder> {
        match input {
            LinearInput::Attention | LinearInput::Intermediate => self.hidden(),
            LinearInput::AttentionOutput => Arc::new(ChannelOrder::Models),
            LinearInput::Output => self.inner(layer),
        }
    }
}

/// How large a channel was in calibration, as a multiple of the median of all channels' largest magnitudes, in the
/// layer where that is most.
fn hidden_outlyingness(calibration: &Calibration, layers: usize) -> Vec<f32> {
    let mut most: Vec<f32> = Vec::new();
    for layer in 0..layers {
        for input in [LinearInput::Attention, LinearInput::Intermediate] {
            let largest = calibration.largest(layer, input);
            let median = median(largest);
            most.resize(largest.len(), 0.0);
            most.iter_mut().zip(largest).for_each(|(most, largest)| *most = most.max(largest / median));
        }
    }
    most
}

/// The smallest positive number where most are 0, so that it can be divided by.
fn median(values: &[f32]) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(1.0).max(f32::MIN_POSITIVE)
}

impl ChannelOrder {
    /// Channels by these numbers, the greatest first; equals as they were.
    pub(super) fn descending(numbers: &[f32]) -> Self {
        let mut channels: Vec<usize> = (0..numbers.len()).collect();
        channels.sort_by(|&a, &b| numbers[b].total_cmp(&numbers[a]));
        if channels.is_sorted() { Self::Models } else { Self::Channels(channels) }
    }

    /// The channel at a place.
    pub(super) fn channel(&self, place: usize) -> usize {
        match self {
            Self::Models => place,
            Self::Channels(channels) => channels[place],
        }
    }

    /// The channels at the first `count` places.
    pub(super) fn channels(&self, count: usize) -> Vec<usize> {
        (0..count).map(|place| self.channel(place)).collect()
    }

    /// Where each channel stands; `None`: at its own place.
    pub(super) fn places(&self) -> Option<Vec<usize>> {
        let Self::Channels(channels) = self else { return None };
        let mut places = vec![0; channels.len()];
        channels.iter().enumerate().for_each(|(place, &channel)| places[channel] = place);
        Some(places)
    }

    /// The values of rows that have all the channels, those of each row in this order.
    pub(super) fn apply_to_rows<T: Copy>(&self, rows: &[T]) -> impl Iterator<Item = T> {
        let width = match self {
            Self::Models => rows.len(),
            Self::Channels(channels) => channels.len(),
        };
        let rows = rows.chunks_exact(width.max(1));
        rows.flat_map(move |row| (0..width).map(move |place| row[self.channel(place)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_stand_in_descending_order_and_their_places_undo_it() {
        let order = ChannelOrder::descending(&[1.0, 5.0, 3.0, 5.0]);
        assert_eq!(order, ChannelOrder::Channels(vec![1, 3, 2, 0]));
        let row = [10, 11, 12, 13, 20, 21, 22, 23];
        let ordered: Vec<_> = order.apply_to_rows(&row).collect();
        assert_eq!(ordered, [11, 13, 12, 10, 21, 23, 22, 20]);
        let back = ChannelOrder::Channels(order.places().expect("another order"));
        assert_eq!(back.apply_to_rows(&ordered).collect::<Vec<_>>(), row);
    }

    #[test]
    fn an_order_that_changes_nothing_is_the_models() {
        assert_eq!(ChannelOrder::descending(&[3.0, 2.0, 2.0]), ChannelOrder::Models);
        assert_eq!(ChannelOrder::Models.places(), None);
        assert_eq!(ChannelOrder::Models.apply_to_rows(&[1, 2, 3]).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
