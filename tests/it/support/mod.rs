//! What the tests share: models, servers, clients.

pub(crate) mod authority;
pub(crate) mod models;
pub(crate) mod numbers;
pub(crate) mod python;
pub(crate) mod reference;
pub(crate) mod server;

use std::time::Duration;

/// Nothing that a test waits for takes as long; what does is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The cosine of the angle between two vectors, in double precision.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "vectors of one length");
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}

/// The L2 norm, in double precision.
pub(crate) fn norm(a: &[f32]) -> f64 {
    a.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}
