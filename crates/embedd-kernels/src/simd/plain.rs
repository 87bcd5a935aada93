//! Arrays of 4 floats, which the compiler turns into the 128-bit vectors that most CPUs have.

use super::Simd;

/// The token of [`crate::InstructionSet::Plain`], which every CPU supports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain;

const LANES: usize = 4;

type Lanes = [f32; LANES];

/// 1.5 * 2^23: adding and then subtracting it rounds to an integer. `f32::round_ties_even` is a function call per lane
/// on targets without an instruction for it.
const ROUNDER: f32 = 12_582_912.0;

/// Defines methods that apply the same expression to every lane.
macro_rules! lanewise {
    ($(fn $name:ident($($argument:ident),*) = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($argument: Lanes),*) -> Lanes {
            let mut out = [0.0; LANES];
            for lane in 0..LANES {
                $(let $argument = $argument[lane];)*
                out[lane] = $body;
            }
            out
        }
    )*};
}

impl Simd for Plain {
    type F32 = Lanes;

    const LANES: usize = LANES;
    const REGISTERS: usize = 16;

    lanewise! {
        fn add(a, b) = a + b;
        fn sub(a, b) = a - b;
        fn mul(a, b) = a * b;
        fn div(a, b) = a / b;
        // Not `f32::mul_add`, which is a function call on targets without an instruction for it.
        fn mul_add(a, b, c) = a * b + c;
        fn max(a, b) = if a > b { a } else { b };
        fn min(a, b) = if a < b { a } else { b };
        fn abs(a) = a.abs();
        fn round(a) = (a + ROUNDER) - ROUNDER;
        fn scale_by_power(a, n) = a * f32::from_bits((((n + ROUNDER).to_bits() as i32 + 127) << 23) as u32);
        fn select_less(a, b, yes, no) = if a < b { yes } else { no };
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Lanes {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, values: &[f32]) -> Lanes {
        let mut lanes = [0.0; LANES];
        lanes.copy_from_slice(&values[..LANES]);
        lanes
    }

    #[inline(always)]
    fn load_first(self, values: &[f32]) -> Lanes {
        let mut lanes = [0.0; LANES];
        let count = values.len().min(LANES);
        lanes[..count].copy_from_slice(&values[..count]);
        lanes
    }

    #[inline(always)]
    fn load_bytes(self, values: &[i8]) -> Lanes {
        let mut bytes = [0; LANES];
        bytes.copy_from_slice(&values[..LANES]);
        bytes.map(f32::from)
    }

    #[inline(always)]
    fn load_bytes_first(self, values: &[i8]) -> Lanes {
        let mut bytes = [0i8; LANES];
        let count = values.len().min(LANES);
        bytes[..count].copy_from_slice(&values[..count]);
        bytes.map(f32::from)
    }

    #[inline(always)]
    fn store(self, to: &mut [f32], vector: Lanes) {
        to[..LANES].copy_from_slice(&vector);
    }

    #[inline(always)]
    fn store_first(self, to: &mut [f32], vector: Lanes) {
        let count = to.len().min(LANES);
        to[..count].copy_from_slice(&vector[..count]);
    }

    #[inline(always)]
    fn first_or(self, vector: Lanes, count: usize, others: Lanes) -> Lanes {
        let mut out = others;
        for lane in 0..LANES {
            if lane < count {
                out[lane] = vector[lane];
            }
        }
        out
    }

    #[inline(always)]
    fn sum(self, a: Lanes) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }

    #[inline(always)]
    fn max_lane(self, a: Lanes) -> f32 {
        a[0].max(a[2]).max(a[1].max(a[3]))
    }

    #[inline(always)]
    fn store_bytes(self, to: &mut [u8], vector: Lanes) {
        self.store_bytes_first(&mut to[..LANES], vector);
    }

    #[inline(always)]
    fn store_bytes_first(self, to: &mut [u8], vector: Lanes) {
        // By contract, every lane holds an integer from 0 to 255.
        to.iter_mut().zip(vector).for_each(|(to, lane)| *to = lane as u8);
    }

    #[inline(always)]
    fn prepare_store(self, _to: &mut [f32]) {}

    #[inline(always)]
    fn prefetch<T>(self, _: *const T) {}

    #[inline(always)]
    fn prefetch_to_l2<T>(self, _: *const T) {}

    #[inline(always)]
    fn transpose_8x8(self, from: [&[f32]; 8], to: &mut [f32], stride: usize) {
        for (row, from) in from.into_iter().enumerate() {
            for (column, &value) in from[..8].iter().enumerate() {
                to[column * stride + row] = value;
            }
        }
    }
}
