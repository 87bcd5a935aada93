//! The mean of a text's rows.

use crate::simd::{Simd, Vectorized};

/// The number of rows added in one pass over the output. Each channel is still summed in row order.
const ROWS_PER_PASS: usize = 4;

/// Writes the mean of `rows`, float32 `[tokens, channels]`, to `output`, `[channels]`.
pub(super) struct Mean<'a> {
    pub(super) rows: &'a [f32],
    pub(super) output: &'a mut [f32],
}

impl Vectorized for Mean<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let channels = self.output.len();
        self.output.fill(0.0);
        for rows in self.rows.chunks(ROWS_PER_PASS * channels) {
            for (index, to) in self.output.chunks_mut(S::LANES).enumerate() {
                let mut sum = s.load_part(to);
                for row in rows.chunks_exact(channels) {
                    sum = s.add(sum, s.load_part(&row[index * S::LANES..]));
                }
                s.store_part(to, sum);
            }
        }
        let count = s.splat((self.rows.len() / channels) as f32);
        for to in self.output.chunks_mut(S::LANES) {
            s.store_part(to, s.div(s.load_part(to), count));
        }
    }
}
