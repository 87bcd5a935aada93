//! Rounds weights channel by channel. The remaining channels compensate for the errors of the rounded ones.
//!
//! This is GPTQ: Frantar, Ashkboos, Hoefler, Alistarh: "GPTQ: Accurate Post-Training Quantization for Generative
//! Pre-trained Transformers", 2022 (arXiv 2210.17323), in its Cholesky form with lazy batches of updates. It minimizes
//! the error of the layer's outputs, `|X W - X Q|^2` over calibration inputs `X`, instead of the weights' error.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, s};

use super::quantize;

mod cholesky;
mod hessian;

pub(super) use hessian::{Hessian, Rows};

/// The number of channels rounded before their errors are propagated to later channels. It affects only speed.
const BLOCK: usize = 128;
/// The number of outputs rounded together, so that a block of them stays in the CPU's L1 cache.
const TILE: usize = 64;
/// Fractions of a group's largest magnitude that are tried as the end of the range.
const CLIPS: [f32; 9] = [1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.8, 0.75, 0.7];

/// INT8 weights with a scale for each output and group of input channels: `value = scale x integer`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rounded {
    /// From -127 to 127, `[rounded inputs, outputs]` row-major.
    pub(super) integers: Vec<i8>,
    /// `[groups, outputs]` row-major.
    pub(super) scales: Vec<f32>,
    /// The weights of the other inputs, `[exact inputs, outputs]` row-major.
    pub(super) exact: Vec<f32>,
    /// Columns of all three.
    pub(super) outputs: usize,
}

/// Rounds `weight`, `[inputs, outputs]` row-major, with its inputs in the order of `hessian`.
///
/// `groups` are the consecutive ranges of inputs that share a scale. The inputs after the last group stay exact: their
/// weights change only to compensate for the errors of the others. An output's scale in a group is chosen when the group
/// is reached, from the weights updated so far. If `clip` is set, a smaller scale, which clips a few weights, is chosen
/// if it reduces the total error, weighted by the mean squares of the inputs.
///
/// Without a factor in `hessian`, each weight is rounded independently.
pub(super) fn round(
    mut weight: Vec<f32>,
    outputs: usize,
    groups: &[Range<usize>],
    hessian: &Hessian,
    clip: bool,
) -> Rounded {
    let rounded = groups.last().map_or(0, |group| group.end * outputs);
    let mut integers = vec![0; rounded];
    let mut scales = Vec::with_capacity(groups.len() * outputs);
    let mut errors = vec![0.0; BLOCK * outputs];
    for group in groups {
        let values = &weight[group.start * outputs..group.end * outputs];
        let scale = best_scales(values, outputs, &hessian.mean_squares()[group.clone()], clip);
        for start in group.clone().step_by(BLOCK) {
            let block = start..(start + BLOCK).min(group.end);
            let (done, rest) = weight.split_at_mut(block.end * outputs);
            let block_of = block.start * outputs..block.end * outputs;
            let errors = &mut errors[..block_of.len()];
            let factor = hessian.factor();
            round_block(&done[block_of.clone()], &scale, factor, &block, &mut integers[block_of], errors);
            if let Some(factor) = &factor {
                propagate(factor, &block, errors, rest, outputs);
            }
        }
        scales.extend(scale);
    }
    let exact = weight.split_off(rounded);
    Rounded { integers, scales, exact, outputs }
}

/// The scale of each output with the smallest error over the rows of a group, `[channels, outputs]`.
fn best_scales(rows: &[f32], outputs: usize, mean_squares: &[f32], clip: bool) -> Vec<f32> {
    let mut largest = vec![0.0_f32; outputs];
    for row in rows.chunks_exact(outputs) {
        largest.iter_mut().zip(row).for_each(|(largest, value)| *largest = largest.max(value.abs()));
    }
    let full: Vec<f32> = largest.iter().map(|&largest| quantize::scale_for(largest)).collect();
    if !clip {
        return full;
    }
    let mut best = full.clone();
    let mut smallest = vec![f32::INFINITY; outputs];
    for clip in CLIPS {
        let scales: Vec<f32> = full.iter().map(|scale| scale * clip).collect();
        let mut sums = vec![0.0; outputs];
        for (row, mean_square) in rows.chunks_exact(outputs).zip(mean_squares) {
            for ((sum, &value), &scale) in sums.iter_mut().zip(row).zip(&scales) {
                let error = value - quantize::nearest(value, scale) * scale;
                *sum += mean_square * error * error;
            }
        }
        for (output, &sum) in sums.iter().enumerate() {
            if sum < smallest[output] {
                best[output] = scales[output];
                smallest[output] = sum;
            }
        }
    }
    best
}

/// Rounds the channels of a block, `[channels, outputs]`, in order, and propagates each channel's errors to the rest of
/// the block. `errors`, of the same shape, receives the errors to propagate to the channels after the block.
fn round_block(
    weight: &[f32],
    scales: &[f32],
    factor: Option<ArrayView2<'_, f32>>,
    block: &Range<usize>,
    integers: &mut [i8],
    errors: &mut [f32],
) {
    let outputs = scales.len();
    let mut tile = Vec::with_capacity(BLOCK * TILE);
    for (start, scales) in (0..outputs).step_by(TILE).zip(scales.chunks(TILE)) {
        let columns = start..start + scales.len();
        let part = |row: usize| row * outputs + columns.start..row * outputs + columns.end;
        tile.clear();
        (0..block.len()).for_each(|row| tile.extend_from_slice(&weight[part(row)]));
        for row in 0..block.len() {
            let (done, after) = tile.split_at_mut((row + 1) * scales.len());
            let values = &done[row * scales.len()..];
            let integers = &mut integers[part(row)];
            let errors = &mut errors[part(row)];
            let Some(factor) = factor else {
                integers.iter_mut().zip(values).zip(scales).for_each(|((i, &v), &s)| *i = quantize::round(v, s));
                continue;
            };
            let channel = block.start + row;
            let pivot = factor[(channel, channel)];
            for (((integer, error), &value), &scale) in integers.iter_mut().zip(&mut *errors).zip(values).zip(scales) {
                let nearest = quantize::nearest(value, scale);
                // An integer from -127 to 127.
                *integer = nearest as i8;
                *error = (value - nearest * scale) / pivot;
            }
            for (offset, later) in after.chunks_exact_mut(scales.len()).enumerate() {
                let share = factor[(channel, channel + 1 + offset)];
                later.iter_mut().zip(&*errors).for_each(|(later, error)| *later -= share * error);
            }
        }
    }
}

/// Propagates a block's errors to all channels after it, `rest`.
fn propagate(factor: &ArrayView2<'_, f32>, block: &Range<usize>, errors: &[f32], rest: &mut [f32], outputs: usize) {
    let shares = factor.slice(s![block.clone(), block.end..]);
    let shape = |values: &[f32]| (values.len() / outputs, outputs);
    let errors = ArrayView2::from_shape(shape(errors), errors).expect("whole rows");
    let mut rest = ArrayViewMut2::from_shape(shape(rest), rest).expect("whole rows");
    general_mat_mul(-1.0, &shares.t(), &errors, 1.0, &mut rest);
}

#[cfg(test)]
mod tests;
