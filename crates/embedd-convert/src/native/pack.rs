//! Packs a linear layer's rounded weights in the layout of the kernels.

use super::order::ChannelOrder;
use crate::gptq::Rounded;
use embedd_kernels::{LinearWeights, PANEL, RowLayout};

/// A linear layer's tensors, in the shapes and order that [`LinearWeights::new`] expects.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Packed {
    pub(super) weights: Vec<i8>,
    pub(super) scales: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Packed {
    /// The concatenated bytes, in the order of the file.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let floats = self.scales.iter().chain(&self.bias).flat_map(|value| value.to_le_bytes());
        self.weights.into_iter().map(i8::cast_unsigned).chain(floats).collect()
    }
}

/// Packs `weight`, whose inputs are already in the packed order, and `bias`, `[outputs]`. `outputs` is the packed order
/// of the outputs.
///
/// The integers of 16-bit channels appear twice, for the two halves of a value.
pub(super) fn pack(weight: &Rounded, bias: &[f32], layout: RowLayout, outputs: &ChannelOrder) -> Packed {
    let groups = layout.groups();
    let row_bytes = layout.row_bytes();
    let columns = bias.len().next_multiple_of(PANEL);
    let mut packed = Packed {
        weights: vec![0; columns * row_bytes],
        scales: vec![0.0; columns * groups.len() * 2],
        bias: vec![0.0; columns],
    };
    for output in 0..bias.len() {
        let channel = outputs.channel(output);
        packed.bias[output] = bias[channel];
        for (index, group) in groups.iter().enumerate() {
            let mut sum = 0;
            for (offset, input) in group.channels.clone().enumerate() {
                let integer = weight.integers[input * weight.outputs + channel];
                for byte in group.places(offset) {
                    packed.weights[LinearWeights::weight_index(row_bytes, byte, output)] = integer;
                }
                sum += i32::from(integer);
            }
            let scale = weight.scales[index * weight.outputs + channel];
            let at = LinearWeights::scale_index(groups.len(), index, output);
            packed.scales[at] = scale;
            packed.scales[at + PANEL] = (f64::from(scale) * f64::from(sum)) as f32;
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gptq::{self, Hessian};

    /// Rounds to nearest. `weight` is `[outputs, inputs]`; `order` is the order of the inputs.
    fn round(weight: &[f32], layout: RowLayout, order: &ChannelOrder) -> Rounded {
        let channels = order.channels(layout.inputs);
        let columns = |&channel: &usize| weight.iter().skip(channel).step_by(layout.inputs).copied();
        let weight: Vec<f32> = channels.iter().flat_map(columns).collect();
        let groups: Vec<_> = layout.groups().into_iter().map(|group| group.channels).collect();
        let outputs = weight.len() / layout.inputs;
        gptq::round(weight, outputs, &groups, &Hessian::unknown(layout.inputs), false)
    }

    /// The weight that the packed tensors represent, `[outputs, inputs]`, in the packed order.
    fn unpack(packed: &Packed, layout: RowLayout, outputs: usize) -> Vec<Vec<f32>> {
        let groups = layout.groups();
        let value = |output: usize, index: usize, byte: usize| {
            let integer = packed.weights[LinearWeights::weight_index(layout.row_bytes(), byte, output)];
            f32::from(integer) * packed.scales[LinearWeights::scale_index(groups.len(), index, output)]
        };
        let row = |output| {
            let mut row = vec![f32::NAN; layout.inputs];
            for (index, group) in groups.iter().enumerate() {
                for (offset, channel) in group.channels.clone().enumerate() {
                    for byte in group.places(offset) {
                        let value = value(output, index, byte);
                        assert!(
                            row[channel].is_nan() || row[channel] == value,
                            "both halves must have the same weight"
                        );
                        row[channel] = value;
                    }
                }
            }
            row
        };
        (0..outputs).map(row).collect()
    }

    /// Asserts that the padding of the last panel has no effect: weights, scales and bias are 0.
    fn assert_padding_is_zero(packed: &Packed, layout: RowLayout, outputs: usize) {
        let groups = layout.group_count();
        for output in outputs..outputs.next_multiple_of(PANEL) {
            assert_eq!(packed.bias[output], 0.0, "output {output}");
            for group in 0..groups {
                let at = LinearWeights::scale_index(groups, group, output);
                assert_eq!([packed.scales[at], packed.scales[at + PANEL]], [0.0; 2], "output {output}, group {group}");
            }
            let weight = |byte| packed.weights[LinearWeights::weight_index(layout.row_bytes(), byte, output)];
            assert!((0..layout.row_bytes()).all(|byte| weight(byte) == 0), "output {output}");
        }
    }

    #[test]
    fn packed_weights_can_be_unpacked_for_any_order_and_shape() {
        for (inputs, outputs, split, group) in [(30, 5, 6, 16), (8, 33, 0, 8), (12, 64, 3, 128), (7, 1, 1, 4)] {
            let layout = RowLayout { inputs, split, group };
            let weight: Vec<f32> = (0..inputs * outputs).map(|i| ((i * 37 % 101) as f32 - 50.0) / 40.0).collect();
            let bias: Vec<f32> = (0..outputs).map(|i| i as f32 + 0.5).collect();
            let reversed = |count: usize| ChannelOrder::Channels((0..count).rev().collect());
            let packed = pack(&round(&weight, layout, &reversed(inputs)), &bias, layout, &reversed(outputs));
            LinearWeights::new(layout, outputs, &packed.weights, &packed.scales, &packed.bias).expect("the shapes fit");
            for (output, row) in unpack(&packed, layout, outputs).into_iter().enumerate() {
                let source = outputs - 1 - output;
                assert_eq!(packed.bias[output], bias[source]);
                for (place, value) in row.into_iter().enumerate() {
                    let expected = weight[source * inputs + inputs - 1 - place];
                    assert!((value - expected).abs() <= 1.25 / 127.0 * 0.5001, "{value} for {expected}");
                }
            }
            assert_padding_is_zero(&packed, layout, outputs);
        }
    }

    #[test]
    fn the_second_scale_is_the_zero_point_term_for_a_zero_point_of_one() {
        let layout = RowLayout { inputs: 6, split: 2, group: 3 };
        let weight = round(&[127.0, 3.0, -2.0, 0.5, 127.0, 254.0], layout, &ChannelOrder::Source);
        let packed = pack(&weight, &[0.0], layout, &ChannelOrder::Source);
        let at = |group, row| packed.scales[LinearWeights::scale_index(3, group, 0) + row * PANEL];
        assert_eq!([0, 1, 2].map(|group| at(group, 0)), [1.0, 1.0, 2.0]);
        // Groups: 127 and 3; -2, 0.5 (rounds to even, 0) and 127; 254.
        assert_eq!([0, 1, 2].map(|group| at(group, 1)), [130.0, 125.0, 254.0]);
    }
}
