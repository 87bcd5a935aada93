//! Compares every operation of every instruction set with its definition, lane by lane.

use super::{Simd, Vectorized};
use crate::testing::every_available;
use crate::{InstructionSet, Kernels};

const VALUES: [f32; 24] = [
    -3.75, 0.0, 2.5, -0.5, 1e-3, 1e6, -7.0, 0.3, 3.5, -1.5, 88.0, -12.25, 5e-7, 9.0, -2.5, 0.5, 4.0, -4.5, 1.0, -1.0,
    6.125, -1e5, 17.0, 0.25,
];

/// Applies each operation to `VALUES`.
struct Operations;

impl Vectorized for Operations {
    type Output = Vec<(&'static str, Vec<f32>)>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let [a, b, c] = [0, 3, 7].map(|at| s.load(&VALUES[at..]));
        let powers: Vec<f32> = (0..S::LANES).map(|lane| lane as f32 * 12.0 - 90.0).collect();
        let results = [
            ("splat", s.splat(2.5)),
            ("load", a),
            ("add", s.add(a, b)),
            ("sub", s.sub(a, b)),
            ("mul", s.mul(a, b)),
            ("div", s.div(a, c)),
            ("mul_add", s.mul_add(a, b, c)),
            ("max", s.max(a, b)),
            ("min", s.min(a, b)),
            ("abs", s.abs(a)),
            ("round", s.round(a)),
            ("scale_by_power", s.scale_by_power(a, s.load(&powers))),
            ("select_less", s.select_less(a, b, c, a)),
            ("first_or", s.first_or(a, 3, b)),
        ];
        let mut out = Vec::new();
        for (name, vector) in results {
            let mut lanes = vec![0.0; S::LANES];
            s.store(&mut lanes, vector);
            out.push((name, lanes));
        }
        out
    }
}

#[test]
fn every_operation_matches_its_definition_in_each_lane() {
    every_available(|kernels| {
        for (name, lanes) in kernels.dispatch(Operations) {
            for (lane, &found) in lanes.iter().enumerate() {
                let [a, b, c] = [0, 3, 7].map(|at| VALUES[at + lane]);
                let expected = match name {
                    "splat" => 2.5,
                    "load" => a,
                    "add" => a + b,
                    "sub" => a - b,
                    "mul" => a * b,
                    "div" => a / c,
                    "mul_add" => a.mul_add(b, c),
                    "max" => a.max(b),
                    "min" => a.min(b),
                    "abs" => a.abs(),
                    "round" => a.round_ties_even(),
                    "scale_by_power" => a * (lane as f32 * 12.0 - 90.0).exp2(),
                    "select_less" => {
                        if a < b {
                            c
                        } else {
                            a
                        }
                    }
                    "first_or" => {
                        if lane < 3 {
                            a
                        } else {
                            b
                        }
                    }
                    _ => unreachable!("no definition of {name}"),
                };
                let error = (found - expected).abs();
                // Only multiply-add may differ, by the rounding of the product.
                let allowed = if name == "mul_add" { (a * b).abs() * f32::EPSILON } else { 0.0 };
                assert!(error <= allowed, "{name}, lane {lane}: {found} instead of {expected}");
            }
        }
    });
}

/// Loads `.0` values, from floats and from bytes, and stores `.0` lanes.
struct Partial(usize);

impl Vectorized for Partial {
    type Output = (usize, [Vec<f32>; 4]);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let count = self.0.min(S::LANES);
        let bytes: Vec<i8> = (0..count as i8).map(|byte| byte * 7 - 100).collect();
        let mut out = [const { Vec::new() }; 4];
        for lanes in &mut out {
            lanes.resize(S::LANES, -1.0);
        }
        s.store(&mut out[0], s.load_first(&VALUES[..count]));
        s.store(&mut out[1], s.load_bytes_first(&bytes));
        s.store_first(&mut out[2][..count], s.load(&VALUES));
        if count == S::LANES {
            s.store(&mut out[3], s.load_bytes(&bytes));
        }
        (S::LANES, out)
    }
}

#[test]
fn partial_loads_and_stores_access_only_the_first_lanes() {
    every_available(|kernels| {
        for count in 0..=16 {
            let (lanes, out) = kernels.dispatch(Partial(count));
            let count = count.min(lanes);
            for lane in 0..lanes {
                let byte = lane as f32 * 7.0 - 100.0;
                let expected = if lane < count { [VALUES[lane], byte, VALUES[lane]] } else { [0.0, 0.0, -1.0] };
                assert_eq!([out[0][lane], out[1][lane], out[2][lane]], expected, "{count} values, lane {lane}");
                assert_eq!(out[3][lane], if count == lanes { byte } else { -1.0 });
            }
        }
    });
}

struct Lanes;

impl Vectorized for Lanes {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        S::LANES
    }
}

#[test]
fn kernels_run_with_the_vectors_of_their_instruction_set() {
    for (set, lanes) in [
        (InstructionSet::AmxBf16, 16),
        (InstructionSet::AmxInt8, 16),
        (InstructionSet::Avx512Vnni, 16),
        (InstructionSet::AvxVnni, 8),
        (InstructionSet::Avx2, 8),
        (InstructionSet::Plain, 4),
        (InstructionSet::EmulatedAmxBf16, 16),
    ] {
        let run = Kernels::of(set).map(|kernels| kernels.dispatch(Lanes));
        assert_eq!(run, set.is_available().then_some(lanes), "{set}");
    }
}

struct Across;

impl Vectorized for Across {
    type Output = (usize, f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let a = s.load(&VALUES);
        (S::LANES, s.sum(a), s.max_lane(a))
    }
}

#[test]
fn sum_and_maximum_include_every_lane() {
    every_available(|kernels| {
        let (lanes, sum, max_lane) = kernels.dispatch(Across);
        let exact: f64 = VALUES[..lanes].iter().map(|&value| f64::from(value)).sum();
        let size: f64 = VALUES[..lanes].iter().map(|&value| f64::from(value.abs())).sum();
        assert!((f64::from(sum) - exact).abs() <= size * 1e-6, "{sum} instead of {exact}");
        assert_eq!(max_lane, VALUES[..lanes].iter().copied().fold(f32::NEG_INFINITY, f32::max));
    });
}

struct Transposed;

impl Vectorized for Transposed {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<f32> {
        let from: Vec<f32> = (0..80).map(|value| value as f32).collect();
        let mut rows = [&from[..]; 8];
        for (index, row) in rows.iter_mut().enumerate() {
            *row = &from[index * 10..][..8];
        }
        let mut to = vec![-1.0; 7 * 11 + 8];
        s.transpose_8x8(rows, &mut to, 11);
        to
    }
}

#[test]
fn transposing_swaps_rows_and_columns_and_writes_nothing_else() {
    every_available(|kernels| {
        for (index, value) in kernels.dispatch(Transposed).into_iter().enumerate() {
            let row = index / 11;
            let column = index % 11;
            assert_eq!(value, if column < 8 { (column * 10 + row) as f32 } else { -1.0 }, "row {row}, column {column}");
        }
    });
}
