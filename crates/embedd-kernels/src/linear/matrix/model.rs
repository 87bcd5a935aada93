//! Matrix registers in plain Rust, with which the same kernel runs on every CPU.

use super::{FromSums, Matrices, QUAD_STRIDE, RING, SIDE, STEP, Sums};
use crate::layout::QUAD;
use crate::simd::Simd as _;
use crate::simd::plain::Plain;

/// Registers that are as undefined before [`Matrices::clear`] as those of a thread that has not configured them.
pub(in crate::linear) struct Model([Option<Sums>; RING]);

impl Model {
    pub(in crate::linear) fn new() -> Self {
        Self([None; RING])
    }

    fn sums(&mut self, register: usize) -> &mut [i32; SIDE * SIDE] {
        &mut self.0[register].as_mut().expect("a register that holds sums").0
    }
}

impl Matrices for Model {
    fn clear<const SUMS: usize>(&mut self) {
        self.0[SUMS] = Some(Sums([0; SIDE * SIDE]));
    }

    /// As the manual defines TDPBUSD: 32-bit sums of the products of four unsigned and four signed bytes.
    unsafe fn add_products<const SUMS: usize>(&mut self, rows: *const u8, stride: usize, weights: *const i8) {
        for (row, sums) in self.sums(SUMS).chunks_exact_mut(SIDE).enumerate() {
            for byte in 0..STEP {
                // SAFETY: by the caller's guarantee.
                let factor = i32::from(unsafe { *rows.add(row * stride + byte) });
                for (column, sum) in sums.iter_mut().enumerate() {
                    let at = byte / QUAD * QUAD_STRIDE + column * QUAD + byte % QUAD;
                    // SAFETY: as above.
                    *sum = sum.wrapping_add(factor * i32::from(unsafe { *weights.add(at) }));
                }
            }
        }
    }

    /// Sums are stored once.
    fn store<const SUMS: usize>(&mut self, to: &mut Sums) {
        *to = self.0[SUMS].take().expect("a register that holds sums");
    }
}

impl FromSums for Plain {
    unsafe fn load_sums(self, sums: *const i32) -> Self::F32 {
        // SAFETY: by the caller's guarantee.
        std::array::from_fn(|lane| unsafe { *sums.add(lane) } as f32)
    }

    unsafe fn load_split_sums(self, high: *const i32, low: *const i32) -> Self::F32 {
        // SAFETY: by the caller's guarantee.
        let pairs: [_; Self::LANES] = std::array::from_fn(|lane| unsafe { (*high.add(lane), *low.add(lane)) });
        pairs.map(|(high, low)| high.wrapping_mul(256).wrapping_add(low) as f32)
    }
}
