//! What the tests share: models, servers, clients.

pub(crate) mod authority;
pub(crate) mod exposition;
pub(crate) mod http;
pub(crate) mod models;
pub(crate) mod numbers;
pub(crate) mod python;
pub(crate) mod reference;
pub(crate) mod server;

use std::time::Duration;

/// Nothing that a test waits for takes as long; what does is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The L2 norm, in double precision.
pub(crate) fn norm(a: &[f32]) -> f64 {
    a.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}
