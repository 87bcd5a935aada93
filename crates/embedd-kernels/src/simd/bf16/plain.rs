//! The operations in plain Rust, for tests on every CPU.

use super::{Bf16, CHANNELS, COLUMNS, rounded_scale};
use crate::simd::plain::Plain;

/// The bfloat16 nearest to `value`.
pub(crate) fn nearest(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // Quiet, whatever is cut off.
        return (bits >> 16) as u16 | 0x40;
    }
    if value.abs() < f32::MIN_POSITIVE {
        return (bits >> 16) as u16 & 0x8000;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

fn widened(value: u16) -> f32 {
    f32::from_bits(u32::from(value) << 16)
}

impl Bf16 for Plain {
    type Simd = Self;
    type Scales = [f32; COLUMNS];

    fn simd(self) -> Self {
        self
    }

    fn round(self, vector: [f32; 4]) -> [f32; 4] {
        vector.map(|value| widened(nearest(value)))
    }

    fn store(self, to: &mut [u16], vector: [f32; 4]) {
        to[..4].copy_from_slice(&vector.map(nearest));
    }

    fn store_pairs(self, to: &mut [u16], even: [f32; 4], odd: [f32; 4]) {
        for (lane, to) in to[..8].chunks_exact_mut(2).enumerate() {
            to.copy_from_slice(&[nearest(even[lane]), nearest(odd[lane])]);
        }
    }

    fn scales(self, scales: &[f32]) -> [f32; COLUMNS] {
        std::array::from_fn(|column| rounded_scale(scales[column]))
    }

    fn widen(self, weights: &[i8], scales: [f32; COLUMNS], to: &mut [u16]) {
        for (index, to) in to[..COLUMNS * CHANNELS].iter_mut().enumerate() {
            let [pair, column, channel] = [index / (2 * COLUMNS), index / 2 % COLUMNS, index % 2];
            let weight = weights[column * CHANNELS + pair * 2 + channel];
            *to = nearest(f32::from(weight) * scales[column]);
        }
    }
}
