use ndarray::Array1;

use super::*;

/// Below, at and above one block, and more than two blocks.
const SIZES: [usize; 7] = [1, 2, 3, 63, 64, 65, 130];

/// Pseudo-random numbers from -1 to 1 that are the same in every run.
fn noise(rows: usize, columns: usize) -> Array2<f64> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    Array2::from_shape_simple_fn((rows, columns), || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / (1_u64 << 23) as f64 - 1.0
    })
}

/// A damped symmetric matrix with the eigenvalues of a few correlated inputs. The largest eigenvalue is on the order of
/// a thousand times the smallest.
fn positive_definite(size: usize) -> Array2<f32> {
    let causes = 1 + size / 8;
    let scales: Array1<f64> = (0..size).map(|channel| 1.0 + (channel % 17) as f64).collect();
    let inputs = noise(causes, size) * &scales;
    let mut products = inputs.t().dot(&inputs);
    let mean = products.diag().sum() / size as f64;
    products.diag_mut().map_inplace(|value| *value += 0.1 * mean);
    products.mapv(|value| value as f32)
}

/// The textbook algorithm, row by row in float64: `L` from the definition of `L L^T`, then `L^-1` by substitution.
fn reference(matrix: &Array2<f32>) -> Array2<f64> {
    let size = matrix.nrows();
    let mut factor = Array2::<f64>::zeros((size, size));
    for row in 0..size {
        for column in 0..=row {
            let known: f64 = (0..column).map(|k| factor[(row, k)] * factor[(column, k)]).sum();
            let rest = f64::from(matrix[(row, column)]) - known;
            factor[(row, column)] = if row == column { rest.sqrt() } else { rest / factor[(column, column)] };
        }
    }
    let mut inverse = Array2::<f64>::zeros((size, size));
    for column in 0..size {
        for row in column..size {
            let known: f64 = (column..row).map(|k| factor[(row, k)] * inverse[(k, column)]).sum();
            inverse[(row, column)] = (f64::from(u8::from(row == column)) - known) / factor[(row, row)];
        }
    }
    inverse
}

fn largest(values: &Array2<f64>) -> f64 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

#[test]
fn the_inverse_factor_matches_the_textbook_algorithm() {
    for size in SIZES {
        let matrix = positive_definite(size);
        let found = inverse_factor(&matrix).expect("positive definite").mapv(f64::from);
        let expected = reference(&matrix);
        let error = largest(&(&found - &expected)) / largest(&expected);
        assert!(error < 1e-5, "{size}: {error}");
        assert!(
            found.indexed_iter().all(|((row, column), &value)| column <= row || value == 0.0),
            "{size}: triangular"
        );
    }
}

#[test]
fn the_inverse_factor_turns_its_matrix_into_the_identity() {
    for size in SIZES {
        let matrix = positive_definite(size);
        let inverse = inverse_factor(&matrix).expect("positive definite").mapv(f64::from);
        let error = largest(&(inverse.dot(&matrix.mapv(f64::from)).dot(&inverse.t()) - Array2::<f64>::eye(size)));
        assert!(error < 1e-3, "{size}: {error}");
    }
}

#[test]
fn only_the_lower_triangle_is_read() {
    for size in SIZES {
        let matrix = positive_definite(size);
        let lower = Array2::from_shape_fn(
            (size, size),
            |(row, column)| {
                if column <= row { matrix[(row, column)] } else { f32::NAN }
            },
        );
        assert_eq!(inverse_factor(&lower), inverse_factor(&matrix), "{size}");
    }
}

#[test]
fn a_diagonal_matrix_is_factored_exactly() {
    let matrix = Array2::from_diag(&Array1::from_iter((0..130).map(|power| 4.0_f32.powi(power % 9))));
    let expected = Array2::from_diag(&Array1::from_iter((0..130).map(|power| 0.5_f32.powi(power % 9))));
    assert_eq!(inverse_factor(&matrix), Some(expected));
}

#[test]
fn a_matrix_that_is_not_positive_definite_has_no_factor() {
    for size in SIZES {
        assert_eq!(inverse_factor(&Array2::zeros((size, size))), None, "{size}: zero");
        let sound = positive_definite(size);
        let with = |row: usize, column: usize, value: f32| {
            let mut matrix = sound.clone();
            matrix[(row, column)] = value;
            inverse_factor(&matrix)
        };
        for place in [0, size / 2, size - 1] {
            for value in [0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                assert_eq!(with(place, place, value), None, "{size}: {value} at position {place} of the diagonal");
            }
        }
        for place in [0, (size - 1) / 2].into_iter().filter(|&place| place < size - 1) {
            for value in [1e6, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                assert_eq!(with(size - 1, place, value), None, "{size}: {value} at position {place} of the last row");
            }
        }
    }
}
