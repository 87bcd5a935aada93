//! Tile registers in plain Rust, with the bits of AMX-BF16.
//!
//! Compiled for a CPU with fused multiply-add, they are as fast as its float32 vectors. On other CPUs they are for
//! tests.

use super::{SIDE, STEP, Sums, Tile, Tiles, check_rows};

const REGISTERS: usize = 8;

/// Registers that are as undefined before they are first written as those of a thread that has just configured them.
pub(crate) struct Emulated {
    factors: [Tile; REGISTERS],
    sums: [Sums; REGISTERS],
}

/// What a register that was never written holds: signaling NaNs, which show in every result.
const UNDEFINED: u16 = 0x7fa5;

impl Emulated {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { factors: [Tile([UNDEFINED; SIDE * STEP]); REGISTERS], sums: [Sums([f32::NAN; SIDE * SIDE]); REGISTERS] }
    }
}

#[inline(always)]
fn widen(value: u32) -> f32 {
    f32::from_bits(value << 16)
}

impl Tiles for Emulated {
    #[inline(always)]
    fn clear<const SUMS: usize>(&mut self) {
        self.sums[SUMS] = Sums::ZERO;
    }

    #[inline(always)]
    fn load<const FACTOR: usize>(&mut self, from: &Tile) {
        self.factors[FACTOR] = *from;
    }

    #[inline(always)]
    fn load_sums<const SUMS: usize>(&mut self, from: &Sums) {
        self.sums[SUMS] = *from;
    }

    #[inline(always)]
    fn store<const SUMS: usize>(&mut self, to: &mut Sums) {
        *to = self.sums[SUMS];
    }

    #[inline(always)]
    fn store_rows<const SUMS: usize>(&mut self, to: &mut [f32], stride: usize) {
        check_rows(to.len(), stride);
        for (row, sums) in self.sums[SUMS].0.chunks_exact(SIDE).enumerate() {
            to[row * stride..][..SIDE].copy_from_slice(sums);
        }
    }

    /// Numbers below 2^-126 are not rounded to 0 here, which only matters to sums that are about as small.
    #[inline(always)]
    fn add_products<const SUMS: usize, const ROWS: usize, const COLUMNS: usize>(&mut self) {
        /// Rows that share the widening of their columns.
        const TOGETHER: usize = 4;
        let columns = &self.factors[COLUMNS].0;
        let blocks = self.sums[SUMS].0.chunks_exact_mut(TOGETHER * SIDE);
        for (rows, sums) in self.factors[ROWS].0.chunks_exact(TOGETHER * STEP).zip(blocks) {
            let mut even = [[0.0_f32; SIDE]; TOGETHER];
            let mut odd = [[0.0_f32; SIDE]; TOGETHER];
            for (pair, columns) in columns.chunks_exact(STEP).enumerate() {
                let mut widened = [[0.0; SIDE]; 2];
                for column in 0..SIDE {
                    widened[0][column] = widen(columns[2 * column].into());
                    widened[1][column] = widen(columns[2 * column + 1].into());
                }
                for row in 0..TOGETHER {
                    let factors = [0, 1].map(|channel| widen(rows[row * STEP + 2 * pair + channel].into()));
                    for column in 0..SIDE {
                        even[row][column] = factors[0].mul_add(widened[0][column], even[row][column]);
                        odd[row][column] = factors[1].mul_add(widened[1][column], odd[row][column]);
                    }
                }
            }
            for row in 0..TOGETHER {
                for column in 0..SIDE {
                    sums[row * SIDE + column] += even[row][column] + odd[row][column];
                }
            }
        }
    }
}
