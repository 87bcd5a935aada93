//! Statistics of a linear layer's inputs: the Hessian of its squared output error, `H = X^T X`, factored.

use half::f16;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, s};

use super::cholesky::inverse_factor;

/// Fractions of the diagonal's mean over the rounded channels that are added to the diagonal, so that the matrix can be factored and the result
/// does not overfit a small number of inputs. If factoring fails, the next fraction is tried.
pub(super) const DAMPING: [f32; 3] = [0.1, 1.0, 10.0];
/// Rows multiplied at a time.
const CHUNK: usize = 512;
/// Columns of the products computed at a time. Work above the diagonal is wasted.
const COLUMNS: usize = 256;

/// Input rows of a linear layer: `[rows, channels]` row-major, in half precision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f16],
    pub(crate) channels: usize,
}

/// The Hessian of some channels, in some order.
pub(crate) struct Hessian {
    mean_squares: Vec<f32>,
    /// The inverse of a Cholesky factor of the Hessian with the channels in reverse order.
    reversed: Option<Array2<f32>>,
}

impl Hessian {
    /// A Hessian for use without calibration inputs: all channels are independent and have the same variance.
    pub(crate) fn unknown(channels: usize) -> Self {
        Self { mean_squares: vec![1.0; channels], reversed: None }
    }

    /// The Hessian of input rows, with the channels in `order`, of which the first `rounded` are rounded.
    ///
    /// It has no factor if there are no rows, or if no damping makes the Hessian positive definite.
    pub(crate) fn of(rows: Rows<'_>, order: &[usize], rounded: usize) -> Self {
        let count = rows.values.len() / rows.channels.max(1);
        if count == 0 {
            return Self::unknown(order.len());
        }
        let mut products = products(rows, order);
        let diagonal = products.diag().to_owned();
        // The products are in reverse order.
        let mean = diagonal.iter().skip(order.len() - rounded).sum::<f32>() / rounded as f32;
        let factored = DAMPING.into_iter().find_map(|damping| {
            products.diag_mut().assign(&(&diagonal + damping * mean));
            inverse_factor(&products)
        });
        let mean_squares = diagonal.iter().rev().map(|sum| sum / count as f32).collect();
        Self { mean_squares, reversed: factored }
    }

    /// The mean square of each channel's inputs.
    pub(super) fn mean_squares(&self) -> &[f32] {
        &self.mean_squares
    }

    /// The upper triangular `U` of `H^-1 = U^T U`. Row `i` holds the share of the error of channel `i` that each later
    /// channel compensates for.
    ///
    /// With the channels in reverse order, `H = L L^T`. Reversed again, `H = R R^T` with `R` upper triangular, so
    /// `U = R^-1` needs one factorization and no inverse of `H`.
    pub(super) fn factor(&self) -> Option<ArrayView2<'_, f32>> {
        self.reversed.as_ref().map(|reversed| reversed.slice(s![..;-1, ..;-1]))
    }

    /// Whether rounding errors can be propagated.
    pub(crate) fn is_factored(&self) -> bool {
        self.reversed.is_some()
    }
}

/// `X^T X`, with the channels in the reverse of `order`. Only the lower triangle is complete.
fn products(rows: Rows<'_>, order: &[usize]) -> Array2<f32> {
    let width = order.len();
    let mut products = Array2::zeros((width, width));
    let mut chunk = Array2::zeros((CHUNK, width));
    for rows in rows.values.chunks(CHUNK * rows.channels).map(|chunk| chunk.chunks_exact(rows.channels)) {
        let mut inputs = chunk.slice_mut(s![..rows.len(), ..]);
        for (row, mut input) in rows.zip(inputs.rows_mut()) {
            input.iter_mut().zip(order.iter().rev()).for_each(|(input, &channel)| *input = row[channel].to_f32());
        }
        for start in (0..width).step_by(COLUMNS) {
            let inputs = inputs.slice(s![.., start..]);
            let columns = COLUMNS.min(width - start);
            let mut sums = products.slice_mut(s![start.., start..start + columns]);
            general_mat_mul(1.0, &inputs.t(), &inputs.slice(s![.., ..columns]), 1.0, &mut sums);
        }
    }
    products
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_summed_over_all_chunks_of_rows_and_blocks_of_columns() {
        let count = CHUNK + 3;
        let channels = COLUMNS + 5;
        // Small integers, so that every sum is exact.
        let value = |row: usize, channel: usize| ((row * 31 + channel * 17) % 11) as f32 - 5.0;
        let values: Vec<f16> =
            (0..count * channels).map(|place| f16::from_f32(value(place / channels, place % channels))).collect();
        let order: Vec<usize> = (0..channels).map(|place| place * 7 % channels).collect();
        let products = products(Rows { values: &values, channels }, &order);
        let channel_at = |place: usize| order[channels - 1 - place];
        for row in [0, 1, COLUMNS - 1, COLUMNS, channels - 1] {
            for column in 0..=row {
                let product = |input: usize| value(input, channel_at(row)) * value(input, channel_at(column));
                let expected: f32 = (0..count).map(product).sum();
                assert_eq!(products[(row, column)], expected, "{row}, {column}");
            }
        }
    }
}
