//! Tile registers, which multiply matrices of bfloat16 and add the products to float32 sums.
//!
//! Work with tiles is written once. It runs on the registers of AMX-BF16, or on an emulation of them, with the same
//! bits; see [`HasTiles`].

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
#[cfg(any(test, target_arch = "x86_64"))]
mod emulated;
#[cfg(target_arch = "x86_64")]
mod kernels;
#[cfg(test)]
pub(super) mod tests;

use crate::simd::bf16::Bf16;

/// The rows of a tile, and the columns of a tile of sums.
pub(super) const SIDE: usize = 16;
/// The channels of a tile of rows.
pub(super) const STEP: usize = 32;

/// A matrix of bfloat16. As the left-hand factor, it holds 16 rows of 32 channels. As the right-hand factor, it holds 16
/// pairs of channels; each pair has two numbers for each of 16 columns, which are adjacent.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Tile(pub(super) [u16; SIDE * STEP]);

/// `[16 rows, 16 columns]`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [f32; SIDE * SIDE]);

impl Tile {
    pub(super) const ZERO: Self = Self([0; SIDE * STEP]);

    /// A row of 32 channels, or of the channels `2 * row` and `2 * row + 1` of 16 columns.
    #[inline(always)]
    pub(super) fn row_mut(&mut self, row: usize) -> &mut [u16] {
        &mut self.0[row * STEP..][..STEP]
    }
}

impl Sums {
    pub(super) const ZERO: Self = Self([0.0; SIDE * SIDE]);
}

impl Default for Sums {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Default for Tile {
    fn default() -> Self {
        Self::ZERO
    }
}

/// The eight tile registers of a thread. Their contents are undefined until they are cleared or loaded.
pub(super) trait Tiles {
    /// Sets the sums in register `SUMS` to 0.
    fn clear<const SUMS: usize>(&mut self);

    fn load<const FACTOR: usize>(&mut self, from: &Tile);

    fn load_sums<const SUMS: usize>(&mut self, from: &Sums);

    fn store<const SUMS: usize>(&mut self, to: &mut Sums);

    /// Stores sums to 16 rows, which begin `stride` floats apart.
    ///
    /// # Panics
    /// If `to` is too short for them.
    fn store_rows<const SUMS: usize>(&mut self, to: &mut [f32], stride: usize);

    /// Adds the product of `ROWS` and `COLUMNS` to `SUMS`. For each sum, the products of the even channels are added up
    /// in order, starting from 0, with one rounding per channel (fused multiply-add), and so are those of the odd
    /// channels; the two totals are added to each other, and then to the sum. Numbers below 2^-126 count as 0.
    fn add_products<const SUMS: usize, const ROWS: usize, const COLUMNS: usize>(&mut self);
}

/// Panics unless `length` floats hold 16 rows of sums that begin `stride` floats apart.
fn check_rows(length: usize, stride: usize) {
    assert!(length >= stride.saturating_mul(SIDE - 1).saturating_add(SIDE), "room for 16 rows of sums");
}

/// Work with tiles that is written once.
pub(super) trait TileWork {
    /// Must be `#[inline(always)]`.
    fn run<B: Bf16, T: Tiles>(self, bf16: B, tiles: T);
}

/// Something that has tile registers.
pub(super) trait HasTiles: Copy + Sync {
    /// Runs `work` with the tile registers.
    fn run<W: TileWork>(self, work: W);
}

#[cfg(target_arch = "x86_64")]
pub(super) use kernels::TileKernels;

/// The kernels of an instruction set with tiles. There are none on this architecture.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Debug, Clone, Copy)]
pub(super) enum TileKernels {}

#[cfg(not(target_arch = "x86_64"))]
impl HasTiles for TileKernels {
    fn run<W: TileWork>(self, _: W) {
        match self {}
    }
}

impl crate::Kernels {
    /// These kernels, if they have tiles.
    pub(super) fn tiles(self) -> Option<TileKernels> {
        #[cfg(target_arch = "x86_64")]
        return TileKernels::new(self);
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}
