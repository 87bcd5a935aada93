//! One vector for the rows of a text.

use super::PoolingRule;
use crate::simd::{Simd, Vectorized};

/// The number of rows added in one pass over the output. Each channel is still summed in row order.
const ROWS_PER_PASS: usize = 4;

/// Pools `rows`, float32 `[tokens, channels]`, without the first `excluded`, to `output`, `[channels]`.
pub(super) struct Pool<'a> {
    pub(super) rows: &'a [f32],
    pub(super) excluded: usize,
    pub(super) rule: PoolingRule,
    pub(super) output: &'a mut [f32],
}

impl Vectorized for Pool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rows, excluded, rule, output } = self;
        let channels = output.len();
        let tokens = rows.len() / channels;
        let count = (tokens - excluded) as f32;
        let divisor = match rule {
            PoolingRule::First => return output.copy_from_slice(&rows[..channels]),
            PoolingRule::Last => return output.copy_from_slice(&rows[rows.len() - channels..]),
            PoolingRule::Max => 1.0,
            PoolingRule::Mean => count,
            PoolingRule::MeanSqrtLen => count.sqrt(),
            // The sum of the numbers from `excluded + 1` to `tokens`.
            PoolingRule::WeightedMean => count * (excluded + tokens + 1) as f32 / 2.0,
        };
        output.fill(if rule == PoolingRule::Max { f32::NEG_INFINITY } else { 0.0 });
        fold(s, &rows[excluded * channels..], output, rule, excluded + 1);
        divide(s, output, divisor);
    }
}

/// Combines each row, in order, with `output`. The first row has the number `first`.
#[inline(always)]
fn fold<S: Simd>(s: S, rows: &[f32], output: &mut [f32], rule: PoolingRule, first: usize) {
    let channels = output.len();
    for (pass, rows) in rows.chunks(ROWS_PER_PASS * channels).enumerate() {
        for (index, to) in output.chunks_mut(S::LANES).enumerate() {
            let mut combined = s.load_part(to);
            for (row, values) in rows.chunks_exact(channels).enumerate() {
                let values = s.load_part(&values[index * S::LANES..]);
                combined = match rule {
                    PoolingRule::Max => s.max(combined, values),
                    PoolingRule::WeightedMean => {
                        let weight = s.splat((pass * ROWS_PER_PASS + row + first) as f32);
                        s.mul_add(weight, values, combined)
                    }
                    _ => s.add(combined, values),
                };
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
