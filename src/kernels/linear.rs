//! Quantised linear layers: rows to bytes, bytes times packed weights, and what follows in the same pass.

use super::elementwise::LayerNorm;
use super::{Kernels, LinearWeights, PANEL, Parallel};

/// What happens to `W x + bias` before it is written.
#[derive(Debug, Clone, Copy)]
pub enum Epilogue<'a> {
    /// Nothing.
    None,
    /// The exact GELU, `x / 2 (1 + erf(x / sqrt(2)))`, to within 1e-6.
    Gelu,
    /// Layer normalisation of the sum with `residual`, float32 `[tokens, outputs]`.
    ResidualNorm {
        /// The other summand.
        residual: &'a [f32],
        /// The normalisation.
        norm: LayerNorm<'a>,
    },
}

/// Memory for quantised rows, kept between calls.
#[derive(Debug, Default)]
pub struct Scratch {
    bytes: Vec<u8>,
    /// `[rows, groups, 2]`: the scale, and the scale times the zero point.
    factors: Vec<f32>,
}

impl Kernels {
    /// `epilogue(W x + bias)` for every row `x` of `input`, float32 `[tokens, inputs]`, to `output`, float32
    /// `[tokens, outputs]`.
    ///
    /// # Panics
    /// Where the slices do not have these shapes.
    pub fn linear(
        self,
        parallel: &dyn Parallel,
        input: &[f32],
        weights: &LinearWeights<'_>,
        epilogue: Epilogue<'_>,
        scratch: &mut Scratch,
        output: &mut [f32],
    ) {
        let layout = weights.layout;
        let rows = input.len() / layout.inputs;
        assert_eq!(input.len(), rows * layout.inputs, "the input is [tokens, inputs]");
        assert_eq!(output.len(), rows * weights.outputs, "the output is [tokens, outputs]");
        plain_quantize(input, weights, scratch);
        plain_multiply(rows, weights, scratch, output);
        match epilogue {
            Epilogue::None => {}
            Epilogue::Gelu => self.gelu(output),
            Epilogue::ResidualNorm { residual, norm } => self.residual_norm(parallel, residual, norm, output),
        }
    }
}

fn plain_quantize(input: &[f32], weights: &LinearWeights<'_>, scratch: &mut Scratch) {
    let layout = weights.layout;
    let groups = layout.groups();
    scratch.bytes.clear();
    scratch.factors.clear();
    for row in input.chunks_exact(layout.inputs) {
        for (index, group) in groups.iter().enumerate() {
            let values = &row[group.channels.clone()];
            let (least, most) = values.iter().fold((0.0f32, 0.0f32), |(a, b), &x| (a.min(x), b.max(x)));
            let halves = layout.split > 0 && index < 2;
            let largest = if halves { 65535.0 } else { 255.0 };
            let scale = ((most - least) / largest).max(f32::MIN_POSITIVE);
            let zero = (-least / scale).round_ties_even();
            let integers = values.iter().map(|x| (x / scale + zero).round_ties_even().clamp(0.0, largest) as u32);
            let bytes = integers.map(|integer| if halves && index == 0 { (integer >> 8) as u8 } else { integer as u8 });
            scratch.bytes.extend(bytes);
            scratch.bytes.extend(std::iter::repeat_n(0, group.bytes.len() - values.len()));
            scratch.factors.extend(match (halves, index) {
                (true, 0) => [scale * 256.0, scale * zero],
                (true, _) => [scale, 0.0],
                _ => [scale, scale * zero],
            });
        }
    }
}

fn plain_multiply(rows: usize, weights: &LinearWeights<'_>, scratch: &Scratch, output: &mut [f32]) {
    let groups = weights.layout.groups();
    let row_bytes = weights.layout.row_bytes();
    for row in 0..rows {
        let bytes = &scratch.bytes[row * row_bytes..][..row_bytes];
        for column in 0..weights.outputs {
            let mut sum = weights.bias[column];
            for (index, group) in groups.iter().enumerate() {
                let product: i32 = group
                    .bytes
                    .clone()
                    .map(|byte| {
                        let weight = weights.weights[LinearWeights::weight_index(row_bytes, byte, column)];
                        i32::from(bytes[byte]) * i32::from(weight)
                    })
                    .sum();
                let [scale, shift] = [0, 1].map(|i| scratch.factors[(row * groups.len() + index) * 2 + i]);
                let at = LinearWeights::scale_index(groups.len(), index, column);
                sum += scale * (weights.scales[at] * product as f32) - shift * weights.scales[at + PANEL];
            }
            output[row * weights.outputs + column] = sum;
        }
    }
}
