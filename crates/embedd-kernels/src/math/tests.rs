//! Compares the functions with float64.

use super::exp2_vector;
use crate::Activation;
use crate::simd::{Simd, Vectorized};
use crate::testing::{by_build, every_available};

struct Exp2<'a>(&'a mut [f32]);

impl Vectorized for Exp2<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for vector in self.0.chunks_exact_mut(S::LANES) {
            s.store(vector, exp2_vector(s, s.load(vector)));
        }
    }
}

#[test]
fn powers_of_two_have_a_relative_error_of_at_most_2e_7() {
    let count = by_build(1 << 20, 1 << 14);
    let exponents: Vec<f32> = (0..count).map(|i| -126.0 + 226.0 * i as f32 / count as f32).collect();
    every_available(|kernels| {
        let mut found = exponents.clone();
        kernels.dispatch(Exp2(&mut found));
        for (&x, &power) in exponents.iter().zip(&found) {
            let exact = f64::from(x).exp2();
            assert!((f64::from(power) / exact - 1.0).abs() <= 2e-7, "2^{x}: {power:e} instead of {exact:e}");
        }
    });
}

#[test]
fn subnormal_powers_are_zero_and_integer_powers_are_exact() {
    every_available(|kernels| {
        let mut found = [
            f32::NEG_INFINITY,
            f32::MIN,
            -1e9,
            -1000.0,
            -150.0,
            -127.0,
            -126.5,
            -126.1,
            0.0,
            -0.0,
            1.0,
            -1.0,
            -126.0,
            2.0,
            10.0,
            127.0,
        ];
        kernels.dispatch(Exp2(&mut found));
        assert_eq!(found[..8], [0.0; 8]);
        let smallest = f32::MIN_POSITIVE;
        assert_eq!(found[8..], [1.0, 1.0, 2.0, 0.5, smallest, 4.0, 1024.0, 127f32.exp2()]);
    });
}

/// erfc for `x >= 0`, to about 1e-12: the series around 0 for `x < 3`, the continued fraction for larger `x`.
fn erfc(x: f64) -> f64 {
    if x < 3.0 {
        let mut term = x;
        let mut sum = x;
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI
    } else {
        let fraction = (1..=60).rev().fold(x, |fraction, n| x + f64::from(n) / 2.0 / fraction);
        (-x * x).exp() / fraction / std::f64::consts::PI.sqrt()
    }
}

fn exact_gelu(x: f32) -> f64 {
    let x = f64::from(x);
    let tail = x.abs() * erfc(x.abs() / std::f64::consts::SQRT_2) / 2.0;
    if x > 0.0 { x - tail } else { -tail }
}

#[test]
fn the_oracle_matches_published_values_of_erfc() {
    let published =
        [(0.0, 1.0), (0.5, 0.479_500_122_186_953), (1.0, 0.157_299_207_050_285), (3.5, 7.430_983_723_414e-7)];
    for (x, value) in published {
        assert!((erfc(x) / value - 1.0).abs() < 1e-12, "erfc({x}) = {}", erfc(x));
    }
    assert!((erfc(3.0 - 1e-12) - erfc(3.0)).abs() < 1e-12);
}

/// `x / 2 (1 + tanh(u))`, as `x / (1 + exp(-2 u))`.
fn exact_gelu_tanh(x: f32) -> f64 {
    let x = f64::from(x);
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
    if x < -1e6 { 0.0 } else { x / (1.0 + (-2.0 * inner).exp()) }
}

/// Checks an activation with every kind of finite number.
fn assert_accurate(activation: Activation, exact: fn(f32) -> f64) {
    // Dense where the curve bends, then a sample of all floats of both signs.
    let half = by_build(100_000, 4000) as i32;
    let dense = (-half..=half).map(|i| i as f32 * 8.0 / half as f32);
    let all = (0..f32::INFINITY.to_bits())
        .step_by(by_build(4099, 262_147))
        .flat_map(|bits| [bits, bits | 1 << 31])
        .map(f32::from_bits);
    let ends = [0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, -f32::MIN_POSITIVE];
    let values: Vec<f32> = dense.chain(all).chain(ends).collect();
    every_available(|kernels| {
        let mut found = values.clone();
        kernels.activate(activation, &mut found);
        let mut worst = (0.0, 0.0);
        for (&x, &y) in values.iter().zip(&found) {
            let expected = exact(x);
            let error = (f64::from(y) - expected).abs();
            assert!(error <= 1e-6_f64.max(expected.abs() * 2e-7), "{activation:?}({x:e}) = {y:e}, not {expected:e}");
            worst = if error > worst.1 && x.abs() < 8.0 { (x, error) } else { worst };
        }
        eprintln!("{}: maximum error {:e}, at {}", kernels.instruction_set(), worst.1, worst.0);
    });
}

#[test]
fn every_activation_has_an_error_of_at_most_1e_6() {
    assert_accurate(Activation::Gelu, exact_gelu);
    assert_accurate(Activation::GeluTanh, exact_gelu_tanh);
    assert_accurate(Activation::Relu, |x| f64::from(x.max(0.0)));
    assert_accurate(Activation::Silu, |x| f64::from(x) / (1.0 + (-f64::from(x)).exp()));
    assert_accurate(Activation::Tanh, |x| f64::from(x).tanh());
}

#[test]
fn activations_do_not_depend_on_the_position_of_a_value() {
    use Activation::{Gelu, GeluTanh, Relu, Silu, Tanh};
    for activation in [Gelu, GeluTanh, Relu, Silu, Tanh] {
        every_available(|kernels| {
            let mut alone = [-1.234];
            kernels.activate(activation, &mut alone);
            for length in 1..40 {
                let mut values = vec![-1.234; length];
                kernels.activate(activation, &mut values);
                assert!(values.iter().all(|value| value.to_bits() == alone[0].to_bits()), "{length} values");
            }
        });
    }
}
