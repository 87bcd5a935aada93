//! INT8 quantization of weights.

/// The largest magnitude of a quantized weight; the range is symmetric.
const LARGEST: f32 = 127.0;

/// Quantizes `weight`, `[outputs, inputs]` row-major, with one scale. The integers are `[inputs, outputs]`.
pub(super) fn by_tensor(weight: &[f32], inputs: usize) -> (Vec<i8>, f32) {
    let scale = scale_for(largest(weight));
    let outputs = weight.len() / inputs;
    let mut integers = vec![0; weight.len()];
    for (output, row) in weight.chunks_exact(inputs).enumerate() {
        for (input, &value) in row.iter().enumerate() {
            integers[input * outputs + output] = round(value, scale);
        }
    }
    (integers, scale)
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
    fn weights_are_transposed_and_restored_within_half_a_step() {
        let weight: Vec<f32> = (0..200).map(|i| ((i * 37 % 101) as f32 - 50.0) / 40.0).collect();
        let (integers, scale) = by_tensor(&weight, 50);
        for (output, row) in weight.chunks_exact(50).enumerate() {
            for (input, &value) in row.iter().enumerate() {
                let back = f32::from(integers[input * 4 + output]) * scale;
                assert!((back - value).abs() <= scale * 0.5001, "{value} became {back}");
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
    fn a_matrix_of_zeros_is_quantized_to_zeros() {
        assert_eq!(by_tensor(&[0.0; 6], 3), (vec![0; 6], 1.0));
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
