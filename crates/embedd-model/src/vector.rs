//! Normalization of pooled vectors.

/// The minimum divisor, as in PyTorch's `normalize`.
const MIN_NORM: f64 = 1e-12;

/// Scales a vector to L2 norm 1, computed in double precision.
pub fn normalize(values: &mut [f32]) {
    let squares: f64 = values.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let scale = 1.0 / squares.sqrt().max(MIN_NORM);
    for value in values {
        *value = (f64::from(*value) * scale) as f32;
    }
}
