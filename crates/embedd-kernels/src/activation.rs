//! The functions between the two linear layers of a feed-forward network.

use super::math::{gelu_tanh_vector, gelu_vector};
use super::simd::Simd;

/// A function of each element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The exact GELU, `x / 2 (1 + erf(x / sqrt(2)))`, to within 1e-6.
    Gelu,
    /// The tanh approximation of GELU, to within 1e-6.
    GeluTanh,
    /// `max(x, 0)`
    Relu,
}

impl Activation {
    #[inline(always)]
    pub(super) fn apply<S: Simd>(self, s: S, x: S::F32) -> S::F32 {
        match self {
            Self::Gelu => gelu_vector(s, x),
            Self::GeluTanh => gelu_tanh_vector(s, x),
            Self::Relu => s.max(x, s.splat(0.0)),
        }
    }
}
