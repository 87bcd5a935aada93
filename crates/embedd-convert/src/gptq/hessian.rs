//! What is known of a linear layer's inputs: the Hessian of its squared output error, `H = X^T X`, factored.

use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Accum, Mat, MatRef, Par, Side};
use half::f16;

/// Shares of the diagonal's mean that are added to the diagonal, so that it can be factored and few inputs are not
/// trusted too much. The next one is tried where one does not do.
pub(super) const DAMPING: [f32; 3] = [0.1, 1.0, 10.0];
/// Rows that are multiplied at a time.
const CHUNK: usize = 512;

/// Input rows of a linear layer: `[rows, channels]` row-major, in half precision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f16],
    pub(crate) channels: usize,
}

/// The Hessian of some channels, in some order.
pub(crate) struct Hessian {
    mean_squares: Vec<f32>,
    /// The inverse of a Cholesky factor of the Hessian whose channels stand in the opposite order.
    reversed: Option<Mat<f32>>,
}

impl Hessian {
    /// Of inputs about which nothing is known: all channels are alike, and independent.
    pub(crate) fn unknown(channels: usize) -> Self {
        Self { mean_squares: vec![1.0; channels], reversed: None }
    }

    /// Of input rows, whose channels are to stand as `order` names them.
    ///
    /// Where there are no rows, or no damping makes the Hessian positive definite, it has no factor.
    pub(crate) fn of(rows: Rows<'_>, order: &[usize]) -> Self {
        let count = rows.values.len() / rows.channels.max(1);
        if count == 0 {
            return Self::unknown(order.len());
        }
        let mut products = products(rows, order);
        let diagonal = |products: &Mat<f32>| products.diagonal().column_vector().iter().copied().collect::<Vec<f32>>();
        let exact = diagonal(&products);
        let mean = exact.iter().sum::<f32>() / exact.len() as f32;
        let factored = DAMPING.into_iter().find_map(|damping| {
            for (place, exact) in exact.iter().enumerate() {
                products[(place, place)] = exact + damping * mean;
            }
            inverse_factor(&products)
        });
        // The products stand in the opposite order.
        let mean_squares = exact.iter().rev().map(|sum| sum / count as f32).collect();
        Self { mean_squares, reversed: factored }
    }

    /// Of each channel.
    pub(super) fn mean_squares(&self) -> &[f32] {
        &self.mean_squares
    }

    /// The upper triangular `U` of `H^-1 = U^T U`, whose row `i` holds how much of the error of channel `i` each later
    /// channel makes up for.
    ///
    /// With the channels in the opposite order `H = L L^T`; turned back `H = R R^T`, where `R` is upper triangular, so
    /// that `U = R^-1` needs one factor and no inverse of `H`.
    pub(super) fn factor(&self) -> Option<MatRef<'_, f32>> {
        self.reversed.as_ref().map(Mat::reverse_rows_and_cols)
    }

    /// Whether errors can be carried.
    pub(crate) fn is_factored(&self) -> bool {
        self.reversed.is_some()
    }
}

/// The lower half of `X^T X`, its channels in the opposite order of `order`.
fn products(rows: Rows<'_>, order: &[usize]) -> Mat<f32> {
    let width = order.len();
    let mut products = Mat::zeros(width, width);
    let mut chunk: Vec<f32> = Vec::with_capacity(CHUNK * width);
    for rows in rows.values.chunks(CHUNK * rows.channels).map(|chunk| chunk.chunks_exact(rows.channels)) {
        chunk.clear();
        let count = rows.len();
        rows.for_each(|row| chunk.extend(order.iter().rev().map(|&channel| row[channel].to_f32())));
        let inputs = MatRef::from_row_major_slice(&chunk, count, width);
        let (lower, whole) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
        matmul(&mut products, lower, Accum::Add, inputs.transpose(), whole, inputs, whole, 1.0, Par::Seq);
    }
    products
}

/// `L^-1` of `products = L L^T`.
fn inverse_factor(products: &Mat<f32>) -> Option<Mat<f32>> {
    let factor = products.llt(Side::Lower).ok()?;
    let mut inverse = Mat::zeros(products.nrows(), products.ncols());
    invert_lower_triangular(inverse.as_mut(), factor.L(), Par::Seq);
    let sound = inverse.diagonal().column_vector().iter().all(|value| value.is_finite() && *value > 0.0);
    sound.then_some(inverse)
}
