//! Blocked inverse Cholesky factors: nearly all of the work is matrix products.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayViewMut2, Axis, s};

/// Rows and columns of a block; 64 and 96 are fastest, by a few percent.
const BLOCK: usize = 64;

/// `L^-1` of the symmetric `matrix = L L^T`, of which only the lower triangle is read; `None` if `matrix` is not
/// positive definite.
pub(super) fn inverse_factor(matrix: &Array2<f32>) -> Option<Array2<f32>> {
    let mut lower = matrix.tril(0);
    factor(&mut lower)?;
    invert(&mut lower);
    Some(lower)
}

/// Replaces the lower triangle of `L L^T` with `L`, except that the blocks on its diagonal are replaced with their
/// inverses, because only the inverses are needed.
fn factor(matrix: &mut Array2<f32>) -> Option<()> {
    for start in (0..matrix.nrows()).step_by(BLOCK) {
        let (factored, mut rest) = matrix.slice_mut(s![start.., ..]).split_at(Axis(1), start);
        let width = BLOCK.min(rest.ncols());
        let mut panel = rest.slice_mut(s![.., ..width]);
        general_mat_mul(-1.0, &factored, &factored.slice(s![..width, ..]).t(), 1.0, &mut panel);
        let (mut diagonal, mut below) = panel.split_at(Axis(0), width);
        factor_block(&mut diagonal)?;
        invert_block(&mut diagonal);
        let solved = below.dot(&diagonal.t());
        below.assign(&solved);
    }
    Some(())
}

/// Replaces the result of [`factor`] with `L^-1`.
fn invert(matrix: &mut Array2<f32>) {
    for start in (BLOCK..matrix.nrows()).step_by(BLOCK) {
        let (inverted, mut rest) = matrix.view_mut().split_at(Axis(0), start);
        let height = BLOCK.min(rest.nrows());
        let (mut row, diagonal) = rest.slice_mut(s![..height, ..start + height]).split_at(Axis(1), start);
        let mut sums = Array2::zeros(row.dim());
        for left in (0..start).step_by(BLOCK) {
            let columns = left..left + BLOCK;
            let mut sum = sums.slice_mut(s![.., columns.clone()]);
            general_mat_mul(1.0, &row.slice(s![.., left..]), &inverted.slice(s![left.., columns]), 0.0, &mut sum);
        }
        general_mat_mul(-1.0, &diagonal, &sums, 0.0, &mut row);
    }
}

/// Replaces the lower triangle of `L L^T` with `L`, and the upper one with zeros.
fn factor_block(block: &mut ArrayViewMut2<'_, f32>) -> Option<()> {
    for row in 0..block.nrows() {
        let (above, mut rest) = block.view_mut().split_at(Axis(0), row);
        let mut current = rest.row_mut(0);
        for column in 0..row {
            let known = current.slice(s![..column]).dot(&above.slice(s![column, ..column]));
            current[column] = (current[column] - known) / above[(column, column)];
        }
        let known = current.slice(s![..row]);
        let square = current[row] - known.dot(&known);
        // False for NaN, too.
        let definite = square > 0.0 && square.is_finite();
        current[row] = definite.then(|| square.sqrt())?;
        current.slice_mut(s![row + 1..]).fill(0.0);
    }
    Some(())
}

/// Inverts a lower triangular matrix.
fn invert_block(block: &mut ArrayViewMut2<'_, f32>) {
    for row in 0..block.nrows() {
        let (inverted, mut rest) = block.view_mut().split_at(Axis(0), row);
        let mut current = rest.row_mut(0);
        let pivot = current[row].recip();
        let sums = current.slice(s![..row]).dot(&inverted.slice(s![.., ..row]));
        current.slice_mut(s![..row]).assign(&(sums * -pivot));
        current[row] = pivot;
    }
}

#[cfg(test)]
mod tests;
