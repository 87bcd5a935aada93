//! Products in plain Rust.

use super::{ByteProducts, Operands};
use crate::layout::{PANEL, QUAD};
use crate::simd::Simd;
use crate::simd::plain::Plain;

const LANES: usize = Plain::LANES;

impl ByteProducts for Plain {
    type Floats = Self;

    const MAX_ROWS: usize = 3;

    const WIDTH: usize = 1;

    #[inline(always)]
    fn floats(self) -> Self {
        self
    }

    #[inline(always)]
    fn widen(self, _memory: &mut [u8]) {}

    #[inline(always)]
    fn byte_products<const ROWS: usize>(self, operands: Operands<'_>) -> [[[f32; LANES]; 2]; ROWS] {
        operands.check::<Self, ROWS>();
        let Operands { bytes, stride, weights, quads, high_quads, .. } = operands;
        let mut sums = [[[0i32; LANES]; 2]; ROWS];
        for quad in 0..quads {
            if quad == high_quads {
                sums.as_flattened_mut().as_flattened_mut().iter_mut().for_each(|sum| *sum <<= 8);
            }
            let weights = &weights[quad * PANEL * QUAD..][..2 * LANES * QUAD];
            for row in 0..ROWS {
                let quad = &bytes[row * stride + quad * QUAD..][..QUAD];
                for vector in 0..2 {
                    for lane in 0..LANES {
                        for byte in 0..QUAD {
                            sums[row][vector][lane] +=
                                i32::from(quad[byte]) * i32::from(weights[(vector * LANES + lane) * QUAD + byte]);
                        }
                    }
                }
            }
        }
        sums.map(|sums| sums.map(|lanes| lanes.map(|sum| sum as f32)))
    }
}
