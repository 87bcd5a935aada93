//! What happens to queries and keys before attention: normalization of each head, and rotation by position.

use super::elementwise::{norm_row, share};
use super::simd::{Simd, Vectorized};
use super::{Heads, Kernels, Norm, Offsets, Parallel};

/// The rotations of all positions (Su, Lu, Pan, Wen and Liu 2021): channel `i` of a head and channel `i + size / 2` are
/// the coordinates of a point that is rotated by `position / theta^(2 i / size)`.
///
/// The angles are computed in float32, as in PyTorch, so that they have the same rounding errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotations {
    frequencies: Vec<f32>,
    /// `[positions, 2, size / 2]`: cosines and sines.
    table: Vec<f32>,
}

/// Changes the queries and keys of each token.
#[derive(Debug, Clone, Copy)]
pub struct HeadTransform<'a> {
    /// The heads of a row.
    pub heads: Heads,
    /// The norms of each query and each key, with weights `[head_size]`.
    pub norms: Option<[Norm<'a>; 2]>,
    /// The rotations, of at least as many positions as the longest text has tokens.
    pub rotations: Option<&'a Rotations>,
}

impl Rotations {
    /// No positions yet. `size`, the number of channels of a head, must be even.
    pub fn new(theta: f32, size: usize) -> Self {
        let frequency = |pair: usize| {
            let exponent = 2.0 * pair as f32 / size as f32;
            1.0 / (f64::from(theta).powf(f64::from(exponent)) as f32)
        };
        Self { frequencies: (0..size / 2).map(frequency).collect(), table: Vec::new() }
    }

    /// The angle of each pair of channels per position, `[size / 2]`.
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }

    /// Adds positions, so that there are at least this many.
    pub fn extend_to(&mut self, positions: usize) {
        let row = 2 * self.frequencies.len();
        for position in self.table.len() / row.max(1)..positions {
            let angles = self.frequencies.iter().map(|frequency| f64::from(position as f32 * frequency));
            let (cosines, sines): (Vec<f32>, Vec<f32>) =
                angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
            self.table.extend(cosines.into_iter().chain(sines));
        }
    }

    /// The cosines and sines of a position.
    fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let half = self.frequencies.len();
        self.table[position * 2 * half..][..2 * half].split_at(half)
    }
}

impl Kernels {
    /// Normalizes and rotates the queries and keys in `qkv`, float32 `[tokens, query heads + 2 * key heads, head_size]`.
    ///
    /// # Panics
    /// If `qkv` does not have its documented shape, or there are not enough rotations.
    pub fn transform_heads(
        self,
        parallel: &dyn Parallel,
        transform: &HeadTransform<'_>,
        offsets: &Offsets,
        qkv: &mut [f32],
    ) {
        let row = transform.heads.row();
        assert_eq!(qkv.len(), offsets.tokens() * row, "the rows must be [tokens, all heads, head_size]");
        share(parallel, qkv, row, &|first, rows| {
            self.dispatch(TransformRows { transform, offsets, first, rows });
        });
    }
}

struct TransformRows<'a> {
    transform: &'a HeadTransform<'a>,
    offsets: &'a Offsets,
    /// The token of the first row.
    first: usize,
    rows: &'a mut [f32],
}

impl Vectorized for TransformRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let HeadTransform { heads, norms, rotations } = *self.transform;
        let (query, transformed) = (heads.query * heads.size, (heads.query + heads.key) * heads.size);
        let positions = self.offsets.texts().flat_map(|text| 0..text.len()).skip(self.first);
        for (row, position) in self.rows.chunks_exact_mut(heads.row()).zip(positions) {
            if let Some([of_queries, of_keys]) = norms {
                for head in row[..query].chunks_exact_mut(heads.size) {
                    norm_row(s, head, of_queries);
                }
                for head in row[query..transformed].chunks_exact_mut(heads.size) {
                    norm_row(s, head, of_keys);
                }
            }
            if let Some(rotations) = rotations {
                let (cosines, sines) = rotations.at(position);
                for head in row[..transformed].chunks_exact_mut(heads.size) {
                    rotate(s, head, cosines, sines);
                }
            }
        }
    }
}

/// Rotates the points `(x, y)` in a head: `x cos - y sin`, `y cos + x sin`.
#[inline(always)]
fn rotate<S: Simd>(s: S, head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let (first, second) = head.split_at_mut(cosines.len());
    let points = first.chunks_mut(S::LANES).zip(second.chunks_mut(S::LANES));
    for ((first, second), (cosines, sines)) in points.zip(cosines.chunks(S::LANES).zip(sines.chunks(S::LANES))) {
        let (x, y) = (s.load_part(first), s.load_part(second));
        let (cosine, sine) = (s.load_part(cosines), s.load_part(sines));
        s.store_part(first, s.sub(s.mul(x, cosine), s.mul(y, sine)));
        s.store_part(second, s.mul_add(x, sine, s.mul(y, cosine)));
    }
}

#[cfg(test)]
mod tests;
