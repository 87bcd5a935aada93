//! Functions that no instruction set provides, built from operations that every set provides.

use super::simd::Simd;

/// Evaluates the polynomial with `coefficients`, highest power first, at `x`.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::F32, coefficients: [f32; N]) -> S::F32 {
    let mut sum = s.splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        sum = s.mul_add(sum, x, s.splat(coefficient));
    }
    sum
}

/// 2^r for `r` between -1/2 and 1/2, with a relative error of 1.6e-8: a minimax fit of degree 6 (Lawson's iterated
/// least squares on Chebyshev nodes, weighted by 2^-r), rounded to float32.
const EXP2: [f32; 7] =
    [0.000_153_458_12, 0.001_339_993_1, 0.009_618_489, 0.055_503_286, 0.240_226_46, std::f32::consts::LN_2, 1.0];

/// 2^x for `x` up to 127, with a relative error of at most 2e-7; 0 below -126, including -inf.
#[inline(always)]
pub(super) fn exp2_vector<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let min = s.splat(-126.0);
    let within = s.max(x, min);
    let whole = s.round(within);
    let power = s.scale_by_power(polynomial(s, s.sub(within, whole), EXP2), whole);
    s.select_less(x, min, s.splat(0.0), power)
}

/// The sixteenth root of Q(t), the probability that a standard normal variable exceeds t, between 0 and 6.5: a fit of
/// degree 6 that minimizes the maximum error of t p(t)^16, which is 2.6e-7 with these float32 coefficients
/// (Gauss-Newton steps of Lawson's iterated least squares on 8001 points against erfc in 50 digits). Approximating this
/// probability by a power of a polynomial follows C. Hastings, Approximations for Digital Computers, 1955 (Abramowitz
/// and Stegun 26.2.19 is the reciprocal of one). Beyond 6.5 the polynomial keeps decreasing.
const ROOT_OF_TAIL: [f32; 7] =
    [-1.175_903_8e-6, -3.521_891_3e-5, 6.584_028_6e-4, -1.344_010_7e-3, -1.780_595_6e-2, -4.776_729_6e-2, 9.576_044e-1];

/// The exact GELU, `x / 2 (1 + erf(x / sqrt(2)))`, of finite numbers to within 1e-6, as `max(x, 0) - |x| Q(|x|)`.
#[inline(always)]
pub(super) fn gelu_vector<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let zero = s.splat(0.0);
    let t = s.abs(x);
    let root = s.max(polynomial(s, t, ROOT_OF_TAIL), zero);
    let power_2 = s.mul(root, root);
    let power_4 = s.mul(power_2, power_2);
    let power_8 = s.mul(power_4, power_4);
    let tail = s.mul(power_8, power_8);
    s.sub(s.max(x, zero), s.mul(t, tail))
}

/// The tanh approximation of GELU, `x / 2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))` (Hendrycks and Gimpel 2016), of
/// finite numbers to within 1e-6, as `x / (1 + exp(-2 sqrt(2/pi) (x + 0.044715 x^3)))`.
#[inline(always)]
pub(super) fn gelu_tanh_vector<S: Simd>(s: S, x: S::F32) -> S::F32 {
    /// `-2 sqrt(2/pi) log2(e)`
    const FACTOR: f32 = -2.302_208_2;
    let square = s.mul(x, x);
    let inner = s.mul(x, s.mul_add(s.splat(0.044_715), square, s.splat(1.0)));
    let power = exp2_vector(s, s.min(s.mul(s.splat(FACTOR), inner), s.splat(126.0)));
    // Below -10, the result is less than the smallest normal number.
    s.div(s.max(x, s.splat(-10.0)), s.add(s.splat(1.0), power))
}

/// `x / (1 + exp(-x))` (Elfwing, Uchibe and Doya 2017) of finite numbers to within 1e-6.
#[inline(always)]
pub(super) fn silu_vector<S: Simd>(s: S, x: S::F32) -> S::F32 {
    // Below -87, the result is less than the smallest normal number.
    s.div(s.max(x, s.splat(-87.0)), s.add(s.splat(1.0), exp_of_minus(s, x)))
}

/// The hyperbolic tangent of finite numbers to within 1e-6, as `2 / (1 + exp(-2 x)) - 1`.
#[inline(always)]
pub(super) fn tanh_vector<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let power = exp_of_minus(s, s.add(x, x));
    s.sub(s.div(s.splat(2.0), s.add(s.splat(1.0), power)), s.splat(1.0))
}

/// `exp(-x)`, at most 2^126.
#[inline(always)]
fn exp_of_minus<S: Simd>(s: S, x: S::F32) -> S::F32 {
    exp2_vector(s, s.min(s.mul(x, s.splat(-std::f32::consts::LOG2_E)), s.splat(126.0)))
}

#[cfg(test)]
mod tests;
