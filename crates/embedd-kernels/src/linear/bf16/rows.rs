//! Rows in bfloat16, packed into tiles.

use std::ops::Range;

use super::BLOCK;
use crate::Parallel;
use crate::layout::{QUAD, RowLayout};
use crate::linear::{Layer, VALUES_PER_TASK, grow_to};
use crate::parallel::share_out;
use crate::simd::Simd;
use crate::simd::bf16::Bf16;
use crate::tiles::{HasTiles, SIDE, STEP, Tile, TileWork, Tiles};

/// Where channels are in packed rows: each group begins at a multiple of 4, as in packed weights. Outlier channels occur
/// only once.
#[derive(Debug)]
pub(super) struct PackedLayout {
    pub(super) groups: Vec<PackedGroup>,
    /// The steps of 32 channels of a packed row, the last of which may be padded.
    pub(super) steps: usize,
}

#[derive(Debug)]
pub(super) struct PackedGroup {
    /// In a row of floats.
    pub(super) channels: Range<usize>,
    /// In a packed row.
    pub(super) quads: Range<usize>,
    /// The first quad in the packed weights.
    pub(super) first_weight: usize,
}

/// Rows packed with a layout: for each block of 16 rows, `steps` tiles.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedRows<'a> {
    pub(super) tiles: &'a [Tile],
    pub(super) layout: &'a PackedLayout,
    pub(super) count: usize,
}

impl<'a> PackedRows<'a> {
    /// The tiles of the block that begins with `row`.
    #[inline(always)]
    pub(super) fn block(&self, row: usize) -> &'a [Tile] {
        &self.tiles[row / SIDE * self.layout.steps..][..self.layout.steps]
    }
}

impl PackedLayout {
    pub(super) fn of(layout: &RowLayout) -> Self {
        let mut end = 0;
        let groups = layout.groups().into_iter().map(|group| {
            let quads = end..end + group.channels.len().div_ceil(QUAD);
            end = quads.end;
            PackedGroup { channels: group.channels, quads, first_weight: group.bytes.start / QUAD }
        });
        let groups = groups.collect();
        Self { groups, steps: (end * QUAD).div_ceil(STEP) }
    }

    /// The number of tiles for `rows` rows, with those that fill the last block.
    pub(super) fn tiles(&self, rows: usize) -> usize {
        rows.next_multiple_of(BLOCK) / SIDE * self.steps
    }

    /// Whether every channel of a packed row is at its own index.
    pub(super) fn is_in_order(&self) -> bool {
        self.groups.iter().all(|group| group.quads.start * QUAD == group.channels.start)
    }
}

impl Layer<'_> {
    /// Packs the input. Rows that only fill the last block have no meaning.
    pub(super) fn pack<'a>(
        &self,
        kernels: impl HasTiles,
        parallel: &dyn Parallel,
        layout: &'a PackedLayout,
        memory: &'a mut Vec<Tile>,
    ) -> PackedRows<'a> {
        let inputs = self.weights.layout.inputs;
        let count = self.rows();
        let tiles = grow_to(memory, layout.tiles(count));
        let blocks = (VALUES_PER_TASK / (inputs * SIDE)).max(count.div_ceil(SIDE * parallel.threads())).max(1);
        let parts = self.input.chunks(blocks * SIDE * inputs).zip(tiles.chunks_mut(blocks * layout.steps));
        share_out(parallel, parts, &|_, (input, tiles)| kernels.run(Pack { layout, input, inputs, tiles }));
        PackedRows { tiles, layout, count }
    }
}

/// Packs some rows, beginning with a whole block.
struct Pack<'a> {
    layout: &'a PackedLayout,
    input: &'a [f32],
    inputs: usize,
    tiles: &'a mut [Tile],
}

impl TileWork for Pack<'_> {
    #[inline(always)]
    fn run<B: Bf16, T: Tiles>(self, bf16: B, _: T) {
        let blocks = self.input.chunks(SIDE * self.inputs).zip(self.tiles.chunks_exact_mut(self.layout.steps));
        for (rows, tiles) in blocks {
            for (row, values) in rows.chunks_exact(self.inputs).enumerate() {
                pack_row(bf16, self.layout, values, row, tiles);
            }
        }
    }
}

/// Packs `values` as row `row` of a block.
#[inline(always)]
fn pack_row<B: Bf16>(bf16: B, layout: &PackedLayout, values: &[f32], row: usize, tiles: &mut [Tile]) {
    let s = bf16.simd();
    let lanes = B::Simd::LANES;
    let mut end = 0;
    for group in &layout.groups {
        let values = &values[group.channels.clone()];
        let start = group.quads.start * QUAD;
        let mut at = 0;
        while at < values.len() {
            let place = start + at;
            let tile = &mut tiles[place / STEP].row_mut(row)[place % STEP..];
            if place.is_multiple_of(lanes) {
                // Missing values become zeros; the next group overwrites those that are not padding.
                bf16.store(tile, s.load_part(&values[at..]));
                at += lanes;
            } else {
                let count = (lanes - place % lanes).min(values.len() - at);
                let mut rounded = [0; STEP];
                bf16.store(&mut rounded, s.load_first(&values[at..at + count]));
                tile[..count].copy_from_slice(&rounded[..count]);
                at += count;
            }
        }
        clear(tiles, row, start + values.len()..group.quads.end * QUAD);
        end = group.quads.end * QUAD;
    }
    clear(tiles, row, end..layout.steps * STEP);
}

/// Sets padding to 0, because the weights there are 0 too, and 0 times infinity would be NaN.
#[inline(always)]
fn clear(tiles: &mut [Tile], row: usize, places: Range<usize>) {
    for place in places {
        tiles[place / STEP].row_mut(row)[place % STEP] = 0;
    }
}
