//! One vector for the rows of a text.

use super::PoolingRule;
use crate::simd::{Simd, Vectorized};

/// The number of rows added in one pass over the output. Each channel is still summed in row order.
const ROWS_PER_PASS: usize = 4;

/// Pools `rows`, float32 `[tokens, channels]`, to `output`, `[channels]`.
pub(super) struct Pool<'a> {
    pub(super) rows: &'a [f32],
    pub(super) rule: PoolingRule,
    pub(super) output: &'a mut [f32],
}

impl Vectorized for Pool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rows, rule, output } = self;
        let channels = output.len();
        let count = (rows.len() / channels) as f32;
        match rule {
            PoolingRule::First => output.copy_from_slice(&rows[..channels]),
            PoolingRule::Last => output.copy_from_slice(&rows[rows.len() - channels..]),
            PoolingRule::Max => {
                output.fill(f32::NEG_INFINITY);
                fold(s, rows, output, |max, row, _| s.max(max, row));
            }
            PoolingRule::Mean => {
                output.fill(0.0);
                fold(s, rows, output, |sum, row, _| s.add(sum, row));
                divide(s, output, count);
            }
            PoolingRule::MeanSqrtLen => {
                output.fill(0.0);
                fold(s, rows, output, |sum, row, _| s.add(sum, row));
                divide(s, output, count.sqrt());
            }
            PoolingRule::WeightedMean => {
                output.fill(0.0);
                fold(s, rows, output, |sum, row, index| s.mul_add(s.splat((index + 1) as f32), row, sum));
                divide(s, output, count * (count + 1.0) / 2.0);
            }
        }
    }
}

/// Combines each row, in order, with `output`. `combine` also gets the row's index.
#[inline(always)]
fn fold<S: Simd>(s: S, rows: &[f32], output: &mut [f32], combine: impl Fn(S::F32, S::F32, usize) -> S::F32) {
    let channels = output.len();
    for (pass, rows) in rows.chunks(ROWS_PER_PASS * channels).enumerate() {
        for (index, to) in output.chunks_mut(S::LANES).enumerate() {
            let mut combined = s.load_part(to);
            for (row, values) in rows.chunks_exact(channels).enumerate() {
                let values = s.load_part(&values[index * S::LANES..]);
                combined = combine(combined, values, pass * ROWS_PER_PASS + row);
            }
            s.store_part(to, combined);
        }
    }
}

#[inline(always)]
fn divide<S: Simd>(s: S, output: &mut [f32], divisor: f32) {
    let divisor = s.splat(divisor);
    for to in output.chunks_mut(S::LANES) {
        s.store_part(to, s.div(s.load_part(to), divisor));
    }
}
