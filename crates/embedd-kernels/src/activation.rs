//! The functions after linear layers.

use serde::{Deserialize, Serialize};

use super::math::{gelu_tanh_vector, gelu_vector, silu_vector, tanh_vector};
use super::simd::Simd;

/// A function of each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The exact GELU, `x / 2 (1 + erf(x / sqrt(2)))`, to within 1e-6.
    Gelu,
    /// The tanh approximation of GELU, to within 1e-6.
    GeluTanh,
    /// `max(x, 0)`
    Relu,
    /// `x / (1 + exp(-x))`, to within 1e-6.
    Silu,
    /// The hyperbolic tangent, to within 1e-6.
    Tanh,
}

impl Activation {
    #[inline(always)]
    pub(super) fn apply<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        match self {
            Self::Gelu => gelu_vector(s, x),
            Self::GeluTanh => gelu_tanh_vector(s, x),
            Self::Relu => s.max(x, s.splat(0.0)),
            Self::Silu => silu_vector(s, x),
            Self::Tanh => tanh_vector(s, x),
        }
    }
}
