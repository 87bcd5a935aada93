//! INT8 quantization of weights.

/// The largest magnitude of a quantized weight; the range is symmetric.
const LARGEST: f32 = 127.0;
/// Candidates for the end of the range, as fractions of the largest magnitude. Clipping a few weights can cause less
/// error than a coarser step for all weights.
const CLIPS: [f32; 5] = [1.0, 0.95, 0.9, 0.85, 0.8];

/// A matrix of INT8 weights: `value = scale of its column * integer`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QuantizedMatrix {
    /// `[inputs, outputs]`, row-major.
    pub(super) integers: Vec<i8>,
    /// `[outputs]`.
    pub(super) scales: Vec<f32>,
}

/// Quantizes `weight`, `[outputs, inputs]` row-major, with a scale per output; inputs in `excluded` become 0.
pub(super) fn by_output(weight: &[f32], inputs: usize, excluded: &[usize]) -> QuantizedMatrix {
    let outputs = weight.len() / inputs;
    let mut integers = vec![0; weight.len()];
    let mut scales = Vec::with_capacity(outputs);
    let mut row = vec![0.0; inputs];
    for (output, source) in weight.chunks_exact(inputs).enumerate() {
        row.copy_from_slice(source);
        excluded.iter().for_each(|&input| row[input] = 0.0);
        let scale = best_scale(&row);
        for (input, &value) in row.iter().enumerate() {
            integers[input * outputs + output] = round(value, scale);
        }
        scales.push(scale);
    }
    QuantizedMatrix { integers, scales }
}

/// Quantizes `weight`, `[outputs, inputs]` row-major, with one scale.
pub(super) fn by_tensor(weight: &[f32], inputs: usize) -> QuantizedMatrix {
    let scale = scale_for(largest(weight));
    let outputs = weight.len() / inputs;
    let mut integers = vec![0; weight.len()];
    for (output, row) in weight.chunks_exact(inputs).enumerate() {
        for (input, &value) in row.iter().enumerate() {
            integers[input * outputs + output] = round(value, scale);
        }
    }
    QuantizedMatrix { integers, scales: vec![scale] }
}

/// Quantizes `table`, `[rows, width]`, with one scale for every `group` values of a row; a row's last group may be
/// smaller. The layout stays the same. Scales are `[rows, groups]`.
pub(super) fn by_row(table: &[f32], width: usize, group: usize) -> (Vec<i8>, Vec<f32>) {
    let groups = || table.chunks_exact(width).flat_map(|row| row.chunks(group));
    let scales: Vec<f32> = groups().map(full_scale).collect();
    let integers =
        groups().zip(&scales).flat_map(|(group, &scale)| group.iter().map(move |&value| round(value, scale)));
    (integers.collect(), scales)
}

/// The scale with the smallest squared error over a row.
fn best_scale(row: &[f32]) -> f32 {
    let largest = largest(row);
    let error = |scale: f32| -> f64 {
        row.iter().map(|&value| f64::from(value - f32::from(round(value, scale)) * scale).powi(2)).sum()
    };
    let candidates = CLIPS.map(|clip| scale_for(largest * clip));
    candidates.into_iter().min_by(|&a, &b| error(a).total_cmp(&error(b))).unwrap_or(1.0)
}

/// The scale without clipping.
fn full_scale(row: &[f32]) -> f32 {
    scale_for(largest(row))
}

/// The scale of a row with this largest magnitude, without clipping. Any scale fits a row of zeros.
pub(super) fn scale_for(largest: f32) -> f32 {
    if largest > 0.0 { largest / LARGEST } else { 1.0 }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

/// The integer for a value, clamped to the range.
pub(super) fn round(value: f32, scale: f32) -> i8 {
    // Within -127..=127 by the clamp.
    nearest(value, scale) as i8
}

/// [`round`] as a float.
pub(super) fn nearest(value: f32, scale: f32) -> f32 {
    round_ties_even((value / scale).clamp(-LARGEST, LARGEST))
}

/// Rounds values of magnitudes below 2^22. `f32::round_ties_even` is a function call on Rust's baseline CPUs, and a
/// conversion rounds each weight several times.
fn round_ties_even(value: f32) -> f32 {
    /// Between 2^23 and 2^24, where all floats are integers.
    const SHIFT: f32 = 12_582_912.0;
    (value + SHIFT) - SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_restored_within_half_a_step_unless_clipped() {
        let weight: Vec<f32> = (0..200).map(|i| ((i * 37 % 101) as f32 - 50.0) / 40.0).collect();
        let matrix = by_output(&weight, 50, &[]);
        for (output, row) in weight.chunks_exact(50).enumerate() {
            let scale = matrix.scales[output];
            for (input, &value) in row.iter().enumerate() {
                let back = f32::from(matrix.integers[input * 4 + output]) * scale;
                let clipped = value.abs() > 127.0 * scale;
                assert!(clipped || (back - value).abs() <= scale * 0.5001, "{value} became {back}");
            }
        }
    }

    #[test]
    fn rounding_matches_the_standard_library() {
        let values = (-51_200..=51_200).map(|i| i as f32 / 400.0);
        for value in values.chain([0.499_999_97, -0.499_999_97, 126.500_01, f32::MIN_POSITIVE]) {
            assert_eq!(round_ties_even(value), value.round_ties_even(), "{value}");
        }
    }

    #[test]
    fn excluded_inputs_are_zero_and_do_not_affect_the_scale() {
        let matrix = by_output(&[1.0, 100.0, -1.0, 0.5, 0.25, -300.0], 3, &[1]);
        assert_eq!(&matrix.integers[2..4], [0, 0], "the row of input 1");
        assert!(matrix.scales[0] <= 1.0 / 127.0);
    }

    #[test]
    fn a_matrix_of_zeros_is_quantized_to_zeros() {
        let matrix = by_output(&[0.0; 6], 3, &[]);
        assert_eq!((matrix.integers, matrix.scales), (vec![0; 6], vec![1.0; 2]));
    }

    #[test]
    fn rows_of_a_table_have_their_own_scales() {
        let (integers, scales) = by_row(&[1.0, -2.0, 100.0, 50.0], 2, 2);
        assert_eq!(integers, [64, -127, 127, 64]);
        assert_eq!(scales, [2.0 / 127.0, 100.0 / 127.0]);
        let (integers, scales) = by_row(&[1.0, -2.0, 50.0, 4.0, 8.0, 0.0], 3, 2);
        assert_eq!(integers, [64, -127, 127, 64, 127, 0]);
        assert_eq!(scales, [2.0 / 127.0, 50.0 / 127.0, 8.0 / 127.0, 1.0]);
    }
}
