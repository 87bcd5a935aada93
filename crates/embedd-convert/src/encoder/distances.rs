//! How attention scores depend on the distance between two tokens, apart from rotations.

use ndarray::{ArrayView2, linalg::general_mat_mul};

use super::relative_position::bucket;
use super::{Linear, Norm};
use crate::source::DisentangledConfig;
use crate::weights::{Tensor, WeightsError};

/// The buckets of MPNet's attention bias. The original implementation has this number whatever the configuration says.
pub(super) const BUCKETS: usize = 32;

/// How attention scores depend on distances.
#[derive(Debug)]
pub(crate) enum Distances<'w> {
    /// They do not.
    None,
    /// By a bias of each head.
    Bias(RelativeAttention<'w>),
    /// By products with embeddings of distances.
    Disentangled(Box<DisentangledAttention<'w>>),
}

/// A bias of the attention scores that depends on the distance between two tokens.
#[derive(Debug)]
pub(crate) struct RelativeAttention<'w> {
    /// `[buckets, heads]`.
    pub(crate) table: Tensor<'w>,
    /// Number of buckets: distance ranges that share a row.
    pub(crate) buckets: usize,
}

/// Disentangled attention (He, Liu, Gao and Chen 2020). Keys and queries of distances do not depend on the text, so they
/// are computed during the conversion.
#[derive(Debug)]
pub(crate) struct DisentangledAttention<'w> {
    pub(super) config: DisentangledConfig,
    /// `[2 * span, hidden_size]`.
    pub(super) embeddings: Tensor<'w>,
    pub(super) norm: Option<Norm<'w>>,
    /// The weights of each layer that turn embeddings into keys, and into queries, as far as there are such terms.
    pub(super) layers: Vec<[Option<Linear<'w>>; 2]>,
}

impl RelativeAttention<'_> {
    /// Row-major `[heads, 2 * farthest + 1]`: column `c` is for keys at distance `c - farthest`.
    ///
    /// # Errors
    /// [`WeightsError`].
    pub(crate) fn by_distance(&self, farthest: usize) -> Result<Vec<f32>, WeightsError> {
        let table = self.table.read()?;
        let heads = self.table.shape()[1];
        let farthest = farthest as i32;
        let columns: Vec<usize> = (-farthest..=farthest).map(|distance| bucket(distance, self.buckets)).collect();
        Ok((0..heads)
            .flat_map(|head| columns.iter().map(move |row| (row, head)))
            .map(|(row, head)| table[row * heads + head])
            .collect())
    }
}

impl DisentangledAttention<'_> {
    /// The number of rows of [`keys`](Self::keys) and [`queries`](Self::queries).
    pub(crate) fn rows(&self) -> usize {
        2 * self.config.span
    }

    /// The row for each distance from `-farthest` to `farthest` from a query to a key.
    pub(crate) fn row_by_distance(&self, farthest: usize) -> Vec<u32> {
        let farthest = farthest as i64;
        (-farthest..=farthest).map(|distance| self.row(-distance)).collect()
    }

    /// The row for a query that is `position` tokens after a key.
    fn row(&self, position: i64) -> u32 {
        let span = self.config.span as i64;
        let shared =
            self.config.logarithmic_to.map_or(position, |farthest| logarithmic(position, span, farthest as i64));
        (shared + span).clamp(0, 2 * span - 1) as u32
    }

    /// Whether queries are multiplied by keys of distances.
    pub(crate) fn has_keys(&self) -> bool {
        self.config.content_to_position
    }

    /// Whether keys are multiplied by queries of distances.
    pub(crate) fn has_queries(&self) -> bool {
        self.config.position_to_content
    }

    /// A layer's keys of distances, `[2 * span, hidden_size]`.
    ///
    /// # Errors
    /// [`WeightsError`].
    pub(crate) fn keys(&self, layer: usize) -> Result<Vec<f32>, WeightsError> {
        self.projected(self.layers[layer][0].as_ref())
    }

    /// A layer's queries of distances, `[2 * span, hidden_size]`.
    ///
    /// # Errors
    /// [`WeightsError`].
    pub(crate) fn queries(&self, layer: usize) -> Result<Vec<f32>, WeightsError> {
        self.projected(self.layers[layer][1].as_ref())
    }

    fn projected(&self, linear: Option<&Linear<'_>>) -> Result<Vec<f32>, WeightsError> {
        let Some(linear) = linear else { return Ok(Vec::new()) };
        let embeddings = self.normalized()?;
        let weight = linear.weight.read()?;
        let bias = linear.biases()?;
        let mut rows: Vec<f32> = bias.iter().copied().cycle().take(self.rows() * bias.len()).collect();
        let view =
            |values, rows, columns| ArrayView2::from_shape((rows, columns), values).expect("a value for each element");
        let inputs = linear.inputs();
        let mut product =
            ndarray::ArrayViewMut2::from_shape((self.rows(), bias.len()), &mut rows).expect("a value for each element");
        let embeddings = view(&embeddings, self.rows(), inputs);
        general_mat_mul(1.0, &embeddings, &view(&weight, bias.len(), inputs).t(), 1.0, &mut product);
        Ok(rows)
    }

    fn normalized(&self) -> Result<Vec<f32>, WeightsError> {
        let mut rows = self.embeddings.read()?;
        let Some(norm) = &self.norm else { return Ok(rows) };
        let (weights, biases) = (norm.weights()?, norm.biases()?);
        for row in rows.chunks_exact_mut(norm.channels()) {
            let count = row.len() as f64;
            let mean = row.iter().copied().map(f64::from).sum::<f64>() / count;
            let variance = row.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
            let factor = 1.0 / (variance + f64::from(norm.epsilon)).sqrt();
            for ((value, weight), bias) in row.iter_mut().zip(&weights).zip(&biases) {
                *value = ((f64::from(*value) - mean) * factor) as f32 * weight + bias;
            }
        }
        Ok(rows)
    }
}

/// Positions up to half of `span` are distinct. Beyond, they share numbers logarithmically, up to `span - 1` for
/// `farthest - 1`.
fn logarithmic(position: i64, span: i64, farthest: i64) -> i64 {
    let middle = span / 2;
    let magnitude = position.abs();
    if magnitude <= middle {
        return position;
    }
    // In float32, as in the original implementation: the rounding errors decide which numbers are shared.
    let ratio =
        ((magnitude as f32 / middle as f32).ln() / ((farthest - 1) as f32 / middle as f32).ln()) * (middle - 1) as f32;
    let shared = ratio.ceil() as i64 + middle;
    shared * position.signum()
}

#[cfg(test)]
mod tests {
    use super::logarithmic;

    #[test]
    fn far_positions_share_numbers_logarithmically() {
        // The formula of the original implementation in float32, evaluated by another program.
        let expected = [(0, 0), (127, 127), (128, 128), (129, 129), (130, 130), (200, 169), (300, 207), (511, 255)];
        for (position, shared) in expected {
            assert_eq!(logarithmic(position, 256, 512), shared, "{position}");
            assert_eq!(logarithmic(-position, 256, 512), -shared, "-{position}");
        }
    }
}
