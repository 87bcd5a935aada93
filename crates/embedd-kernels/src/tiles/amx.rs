//! The tile registers of AMX.
//!
//! The instructions are in assembly, because the standard library does not offer them yet. The compiler never uses these
//! registers itself.
#![allow(unsafe_code)]

use std::arch::asm;

use super::{SIDE, STEP, Sums, Tile, Tiles, check_rows};

/// Bytes from one row of a tile to the next.
const ROW_BYTES: usize = 64;

/// The layout that `ldtilecfg` expects.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// All 8 registers of palette 1 have 16 rows of 64 bytes.
static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// The configured registers of this thread. They are released when this is dropped, because at every context switch, a
/// thread with registers in use has 8 KB more to save.
pub(crate) struct Registers {
    /// Registers belong to a thread.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Registers {
    /// # Safety
    /// This CPU must have the registers, and the operating system must allow this process to use them.
    #[inline(always)]
    pub(crate) unsafe fn configure() -> Self {
        // SAFETY: by the caller's guarantee; the configuration has the layout that the instruction expects.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, preserves_flags, readonly));
        }
        Self { _not_send: std::marker::PhantomData }
    }
}

impl Drop for Registers {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the registers are configured, and nothing uses them afterward.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) };
    }
}

/// Loads register `TILE` from 1 KB.
///
/// # Safety
/// The registers must be configured, and the memory must be readable.
#[inline(always)]
unsafe fn load<const TILE: usize>(from: *const u8) {
    // SAFETY: by the caller's guarantee.
    unsafe {
        asm!(
            "tileloadd tmm{tile}, [{from} + {stride}]",
            from = in(reg) from,
            stride = in(reg) ROW_BYTES,
            tile = const TILE,
            options(nostack, preserves_flags, readonly),
        );
    }
}

/// Stores register `TILE` in 16 rows of 64 bytes, which begin `stride` bytes apart.
///
/// # Safety
/// The registers must be configured, and the memory must be writable.
#[inline(always)]
unsafe fn store<const TILE: usize>(to: *mut u8, stride: usize) {
    // SAFETY: by the caller's guarantee.
    unsafe {
        asm!(
            "tilestored [{to} + {stride}], tmm{tile}",
            to = in(reg) to,
            stride = in(reg) stride,
            tile = const TILE,
            options(nostack, preserves_flags),
        );
    }
}

impl Tiles for Registers {
    #[inline(always)]
    fn clear<const SUMS: usize>(&mut self) {
        // SAFETY: the registers are configured.
        unsafe { asm!("tilezero tmm{sums}", sums = const SUMS, options(nostack, preserves_flags, nomem)) };
    }

    #[inline(always)]
    fn load<const FACTOR: usize>(&mut self, from: &Tile) {
        const { assert!(size_of::<Tile>() == SIDE * ROW_BYTES && STEP * size_of::<u16>() == ROW_BYTES) };
        // SAFETY: the registers are configured; the tile is 1 KB.
        unsafe { load::<FACTOR>((&raw const *from).cast()) };
    }

    #[inline(always)]
    fn load_sums<const SUMS: usize>(&mut self, from: &Sums) {
        const { assert!(size_of::<Sums>() == SIDE * ROW_BYTES) };
        // SAFETY: the registers are configured; the sums are 1 KB.
        unsafe { load::<SUMS>((&raw const *from).cast()) };
    }

    #[inline(always)]
    fn store<const SUMS: usize>(&mut self, to: &mut Sums) {
        // SAFETY: the registers are configured; the sums are 1 KB.
        unsafe { store::<SUMS>((&raw mut *to).cast(), ROW_BYTES) };
    }

    #[inline(always)]
    fn store_rows<const SUMS: usize>(&mut self, to: &mut [f32], stride: usize) {
        check_rows(to.len(), stride);
        // SAFETY: the registers are configured; the rows are within the slice, as just checked.
        unsafe { store::<SUMS>(to.as_mut_ptr().cast(), stride * size_of::<f32>()) };
    }

    #[inline(always)]
    fn add_products<const SUMS: usize, const ROWS: usize, const COLUMNS: usize>(&mut self) {
        // SAFETY: the registers are configured.
        unsafe {
            asm!(
                "tdpbf16ps tmm{sums}, tmm{rows}, tmm{columns}",
                sums = const SUMS,
                rows = const ROWS,
                columns = const COLUMNS,
                options(nostack, preserves_flags, nomem),
            );
        }
    }
}
