use super::*;
use crate::simd::bf16::plain::nearest;
use crate::simd::bf16::rounded_scale;
use crate::testing::{Numbers, Shuffled, every_available};
use crate::{InstructionSet, PANEL, RowLayout, Serial};

/// Numbers of rows below, at and above the tile height of every instruction set.
const ROWS: [usize; 10] = [1, 2, 3, 4, 5, 6, 7, 11, 13, 50];

/// A layer with packed weights.
pub(super) struct Layer {
    layout: RowLayout,
    outputs: usize,
    packed: Vec<i8>,
    scales: Vec<f32>,
    bias: Vec<f32>,
}

impl Layer {
    /// Weights from -127 to 127, scales of about 0.01.
    pub(super) fn random(layout: RowLayout, outputs: usize, numbers: &mut Numbers) -> Self {
        let groups = layout.groups();
        let row_bytes = layout.row_bytes();
        let columns = outputs.next_multiple_of(PANEL);
        let mut layer = Self {
            layout,
            outputs,
            packed: vec![0; columns * row_bytes],
            scales: vec![0.0; columns * groups.len() * 2],
            bias: vec![0.0; columns],
        };
        for output in 0..outputs {
            layer.bias[output] = numbers.floats(1)[0];
            for (index, group) in groups.iter().enumerate() {
                let mut sum = 0;
                for offset in 0..group.channels.len() {
                    let integer = numbers.below(255) as i32 - 127;
                    for byte in group.places(offset) {
                        layer.packed[LinearWeights::weight_index(row_bytes, byte, output)] = integer as i8;
                    }
                    sum += integer;
                }
                let at = LinearWeights::scale_index(groups.len(), index, output);
                layer.scales[at] = 0.01 + 0.005 * numbers.floats(1)[0];
                layer.scales[at + PANEL] = layer.scales[at] * sum as f32;
            }
        }
        layer
    }

    pub(super) fn weights(&self) -> LinearWeights<'_> {
        LinearWeights::new(self.layout, self.outputs, &self.packed, &self.scales, &self.bias).expect("shapes")
    }

    /// The product in float64, quantized and multiplied one number at a time.
    fn oracle(&self, input: &[f32]) -> Vec<f64> {
        let rows = input.chunks_exact(self.layout.inputs);
        rows.flat_map(|row| {
            let quantized = oracle_row(row, self.layout);
            (0..self.outputs).map(move |output| self.oracle_sum(&quantized, output))
        })
        .collect()
    }

    /// The product in float64 of the input and the weights, both rounded to bfloat16, one number at a time.
    pub(super) fn oracle_in_bf16(&self, input: &[f32]) -> Vec<f64> {
        let groups = self.layout.groups();
        let rounded = |value: f32| f64::from(f32::from_bits(u32::from(nearest(value)) << 16));
        let rows = input.chunks_exact(self.layout.inputs);
        let product = |row: &[f32], output: usize| {
            let mut sum = f64::from(self.bias[output]);
            for (index, group) in groups.iter().enumerate() {
                let scale = self.scales[LinearWeights::scale_index(groups.len(), index, output)];
                for (offset, channel) in group.channels.clone().enumerate() {
                    let byte = group.bytes.start + offset;
                    let weight = self.packed[LinearWeights::weight_index(self.layout.row_bytes(), byte, output)];
                    sum += rounded(row[channel]) * rounded(f32::from(weight) * rounded_scale(scale));
                }
            }
            sum
        };
        rows.flat_map(|row| (0..self.outputs).map(move |output| (row, output)))
            .map(|(row, output)| product(row, output))
            .collect()
    }

    fn oracle_sum(&self, row: &[OracleGroup], output: usize) -> f64 {
        let groups = self.layout.groups();
        let mut sum = f64::from(self.bias[output]);
        for (index, (group, quantized)) in groups.iter().zip(row).enumerate() {
            let products = quantized.integers.iter().enumerate().map(|(offset, &integer)| {
                let byte = group.bytes.start + offset;
                let at = LinearWeights::weight_index(self.layout.row_bytes(), byte, output);
                (integer - quantized.zero) * f64::from(self.packed[at])
            });
            let scale = self.scales[LinearWeights::scale_index(groups.len(), index, output)];
            sum += quantized.scale * f64::from(scale) * products.sum::<f64>();
        }
        sum
    }
}

struct OracleGroup {
    scale: f64,
    zero: f64,
    integers: Vec<f64>,
}

/// Quantizes by the definition of [`quantize::Rows`], one channel at a time. The definition requires float32 for the
/// scale and its inverse.
fn oracle_row(row: &[f32], layout: RowLayout) -> Vec<OracleGroup> {
    let groups = layout.groups();
    let quantized = groups.iter().map(|group| {
        let values = &row[group.channels.clone()];
        let largest = if group.split { 65535.0 } else { 255.0 };
        let min = values.iter().copied().fold(0.0, f32::min);
        let max = values.iter().copied().fold(0.0, f32::max);
        let scale = ((max - min) / largest).max(1e-30);
        let inverse = 1.0 / scale;
        let zero = (-min * inverse).round_ties_even();
        let integer = |value: &f32| f64::from(((value * inverse).round_ties_even() + zero).clamp(0.0, largest));
        OracleGroup { scale: scale.into(), zero: zero.into(), integers: values.iter().map(integer).collect() }
    });
    quantized.collect()
}

/// Layouts with and without outlier channels, with group sizes that do and do not divide the other channels.
pub(super) fn layouts() -> Vec<RowLayout> {
    let layout = |inputs, split, group| RowLayout { inputs, split, group };
    vec![
        layout(1, 0, 1),
        layout(4, 0, 4),
        layout(30, 6, 16),
        layout(35, 0, 35),
        layout(64, 16, 16),
        layout(100, 3, 32),
        layout(768, 16, 128),
    ]
}

pub(super) fn run(
    kernels: Kernels,
    parallel: &dyn Parallel,
    input: &[f32],
    layer: &Layer,
    activation: Option<Activation>,
) -> Vec<f32> {
    let rows = input.len() / layer.layout.inputs;
    let mut output = vec![f32::NAN; rows * layer.outputs];
    kernels.linear(parallel, input, &layer.weights(), activation, &mut Scratch::default(), &mut output);
    output
}

#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn products_match_an_oracle_at_every_size_around_the_tiles() {
    every_available(|kernels| {
        let mut numbers = Numbers::new(1);
        for layout in layouts() {
            for outputs in [1, 31, 32, 33, 47, 48, 49, 100] {
                let layer = Layer::random(layout, outputs, &mut numbers);
                for rows in ROWS {
                    let input = numbers.floats(rows * layout.inputs);
                    let found = run(kernels, &Serial, &input, &layer, None);
                    let expected =
                        if kernels.tiles().is_some() { layer.oracle_in_bf16(&input) } else { layer.oracle(&input) };
                    for (found, expected) in found.iter().zip(expected) {
                        let is_close = (f64::from(*found) - expected).abs() < 1e-4 * (1.0 + expected.abs());
                        assert!(is_close, "{kernels:?} {layout:?} {outputs} {rows}: {found} instead of {expected}");
                    }
                }
            }
        }
    });
}

fn quantized(kernels: Kernels, input: &[f32], layout: RowLayout) -> (Vec<u8>, Vec<f32>) {
    let groups = layout.groups();
    let rows = input.len() / layout.inputs;
    let mut bytes = vec![7; rows * layout.row_bytes()];
    let mut factors = vec![f32::NAN; rows * 2 * groups.len()];
    let inputs = layout.inputs;
    kernels.dispatch(quantize::Rows {
        input,
        inputs,
        groups: &groups,
        bytes: &mut bytes,
        stride: layout.row_bytes(),
        factors: &mut factors,
    });
    (bytes, factors)
}

#[test]
fn every_instruction_set_quantizes_to_the_same_bytes() {
    every_available(|kernels| {
        let mut numbers = Numbers::new(3);
        for layout in layouts() {
            let mut input = numbers.floats(5 * layout.inputs);
            input[..layout.inputs].fill(0.0);
            input[layout.inputs..2 * layout.inputs].iter_mut().for_each(|x| *x = x.abs() * 1e-3);
            input[2 * layout.inputs] = 40.0;
            let (bytes, factors) = quantized(kernels, &input, layout);
            for (row, values) in input.chunks_exact(layout.inputs).enumerate() {
                for (index, (group, expected)) in layout.groups().iter().zip(oracle_row(values, layout)).enumerate() {
                    let bytes = &bytes[row * layout.row_bytes()..][group.bytes.clone()];
                    let mut padded = vec![0; bytes.len()];
                    for (offset, &integer) in expected.integers.iter().enumerate() {
                        let halves = [integer as u16 >> 8, integer as u16 & 255].map(|half| half as u8);
                        let halves = if group.split { &halves[..] } else { &halves[1..] };
                        let places = group.places(offset).map(|place| place - group.bytes.start);
                        places.zip(halves).for_each(|(place, &half)| padded[place] = half);
                    }
                    assert_eq!(bytes, padded, "{kernels:?} {layout:?} row {row} group {index}");
                    let factors = &factors[(row * layout.group_count() + index) * 2..][..2];
                    let shift = (-expected.scale * expected.zero) as f32;
                    assert_eq!(factors, [expected.scale as f32, shift], "{kernels:?} {layout:?} row {row}");
                }
            }
        }
    });
}

#[test]
fn a_quantized_channel_is_within_one_step() {
    let mut numbers = Numbers::new(4);
    let layout = RowLayout { inputs: 200, split: 16, group: 64 };
    let row = numbers.floats(layout.inputs);
    let groups = oracle_row(&row, layout);
    let back = |group: &OracleGroup, at: usize| group.scale * (group.integers[at] - group.zero);
    for (channel, value) in row.iter().enumerate() {
        let (found, step) = match channel.checked_sub(layout.split) {
            None => (back(&groups[0], channel), groups[0].scale),
            Some(rest) => (back(&groups[1 + rest / 64], rest % 64), groups[1 + rest / 64].scale),
        };
        // The zero point is rounded too, to make 0 exact; this may clip the ends of the range.
        assert!((found - f64::from(*value)).abs() <= step * 1.01, "channel {channel}: {found} instead of {value}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn a_row_has_the_same_bits_in_any_batch_for_any_number_of_threads() {
    every_available(|kernels| {
        let mut numbers = Numbers::new(5);
        let layout = RowLayout { inputs: 256, split: 16, group: 64 };
        let layer = Layer::random(layout, 2304, &mut numbers);
        let input = numbers.floats(130 * layout.inputs);
        for activation in [None, Some(Activation::Gelu)] {
            let alone: Vec<Vec<f32>> = (0..130)
                .map(|row| {
                    let input = &input[row * layout.inputs..][..layout.inputs];
                    run(kernels, &Serial, input, &layer, activation)
                })
                .collect();
            for (first, rows, threads) in [(0, 130, 1), (0, 130, 3), (17, 7, 2), (60, 13, 4), (100, 25, 7)] {
                let parallel = Shuffled { threads, seed: first as u64 };
                let batch = &input[first * layout.inputs..][..rows * layout.inputs];
                let together = run(kernels, &parallel, batch, &layer, activation);
                for (row, together) in together.chunks_exact(layer.outputs).enumerate() {
                    let same = together.iter().zip(&alone[first + row]).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{kernels:?} {activation:?}: row {row} of {rows} from {first} on {threads} threads");
                }
            }
        }
    });
}

#[test]
fn an_activation_is_applied_to_the_product() {
    every_available(|kernels| {
        let mut numbers = Numbers::new(6);
        let layout = RowLayout { inputs: 64, split: 0, group: 64 };
        let layer = Layer::random(layout, 50, &mut numbers);
        let input = numbers.floats(7 * 64);
        let plain = run(kernels, &Serial, &input, &layer, None);
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu, Activation::Tanh]
        {
            let mut expected = plain.clone();
            kernels.activate(activation, &mut expected);
            let found = run(kernels, &Serial, &input, &layer, Some(activation));
            assert_eq!(found, expected, "{kernels:?}, {activation:?}");
        }
    });
}

#[test]
fn a_pair_of_layers_has_the_bits_of_two_products() {
    every_available(|kernels| {
        let mut numbers = Numbers::new(10);
        // The channels of the last layout are moved in packed rows.
        for (split, group) in [(0, 128), (16, 128), (3, 30)] {
            let first = Layer::random(RowLayout { inputs: 70, split: 0, group: 64 }, 300, &mut numbers);
            let second = Layer::random(RowLayout { inputs: 300, split, group }, 50, &mut numbers);
            for rows in [1, 11, 33] {
                let input = numbers.floats(rows * 70);
                let between = run(kernels, &Serial, &input, &first, Some(Activation::Gelu));
                let expected = run(kernels, &Serial, &between, &second, None);
                let mut found = vec![f32::NAN; rows * 50];
                let mut between = vec![f32::NAN; rows * 300];
                let mut scratch = Scratch::default();
                let parallel = Shuffled { threads: 3, seed: 1 };
                let weights = [&first.weights(), &second.weights()];
                let gelu = Some(Activation::Gelu);
                kernels
                    .first_linear(&parallel, &input, weights, gelu, &mut scratch, &mut between)
                    .linear(&parallel, &mut found);
                assert_eq!(found, expected, "{kernels:?}, {split} outliers, groups of {group}, {rows} rows");
            }
        }
    });
}

#[test]
fn tasks_cover_every_row_and_panel_exactly_once() {
    let mut numbers = Numbers::new(7);
    for (inputs, outputs) in [(64, 70), (768, 768), (768, 3072)] {
        let layer = Layer::random(RowLayout { inputs, split: 0, group: 64 }, outputs, &mut numbers);
        for (rows, threads) in [(1, 1), (11, 2), (128, 2), (384, 64), (5000, 3)] {
            let partition = Partition::of(rows, 24, &layer.weights(), threads);
            let panels = outputs.div_ceil(PANEL);
            let mut seen = vec![0; panels * rows];
            for task in 0..partition.tasks() {
                let (task_panels, task_rows) = partition.task(task);
                task_panels.for_each(|panel| task_rows.clone().for_each(|row| seen[panel * rows + row] += 1));
            }
            assert!(seen.iter().all(|&times| times == 1), "{inputs} x {outputs}, {rows} rows, {threads} threads");
        }
    }
}

/// Integers are summed exactly, so only the vectors of floats matter to the bits.
#[test]
#[cfg_attr(miri, ignore = "takes hours")]
fn instruction_sets_with_the_same_vectors_have_the_same_bits() {
    let mut numbers = Numbers::new(9);
    let layout = RowLayout { inputs: 1600, split: 16, group: 128 };
    let layer = Layer::random(layout, 200, &mut numbers);
    let input = numbers.floats(70 * layout.inputs);
    let pairs = [
        (InstructionSet::AmxBf16, InstructionSet::EmulatedAmxBf16),
        (InstructionSet::AmxInt8, InstructionSet::Avx512Vnni),
        (InstructionSet::AvxVnni, InstructionSet::Avx2),
        (InstructionSet::NeonI8mm, InstructionSet::NeonDotprod),
    ];
    // Sets that this CPU does not support are reported by other tests.
    for (one, other) in pairs.map(|(one, other)| (Kernels::of(one), Kernels::of(other))) {
        let (Some(one), Some(other)) = (one, other) else { continue };
        for rows in [1, 7, 11, 16, 33, 70] {
            let input = &input[..rows * layout.inputs];
            let [found, expected] = [one, other].map(|kernels| run(kernels, &Serial, input, &layer, None));
            assert_eq!(found, expected, "{one:?} and {other:?}, {rows} rows");
        }
    }
}
