//! Products of rows in bfloat16 and weights that are widened to it shortly before they are multiplied, with float32
//! sums in tile registers.
//!
//! Rows are not quantized, and the sums of all groups are added up in the registers, because each weight has been
//! multiplied by its scale. While some weights are multiplied by all rows, the next ones are widened, and finished rows
//! are written, so that tile registers and vectors work at the same time.
//!
//! Sums are added in the order of the channels, 32 at a time. Storing and loading partial sums does not change them, so a
//! row's bits depend only on that row.
#![allow(unsafe_code)]

mod finish;
mod rows;
#[cfg(test)]
mod tests;
mod widen;

use std::cell::RefCell;
use std::ops::Range;

use super::{Layer, Partition, Scratch, grow_to};
use crate::Parallel;
use crate::activation::Activation;
use crate::disjoint::Disjoint;
use crate::layout::{LinearWeights, PANEL};
use crate::parallel::run_each_once;
use crate::simd::bf16::Bf16;
use crate::tiles::{HasTiles, SIDE, Sums, Tile, TileWork, Tiles};
use finish::Finished;
use rows::{PackedLayout, PackedRows};
use widen::Widening;

/// Rows that are multiplied together.
const BLOCK: usize = 2 * SIDE;
/// Strips of 16 columns of a panel.
const STRIPS: usize = PANEL / SIDE;
/// Steps of a part: 16 KB of widened weights. With those of the next part, they fit in the L1 cache.
const PART: usize = 8;
/// Tiles of rows that are multiplied by all panels of a task before the next rows: 1 MB, which fits in the L2 cache.
const TILES_AT_ONCE: usize = 1024;

/// The widened weights of a part: `[steps, strips]`.
type Widened = [Tile; PART * STRIPS];
/// The sums of a block of rows and a panel: `[2, strips]`.
type BlockSums = [Sums; 2 * STRIPS];

/// The data that all tasks of a product share.
struct Work<'a> {
    rows: PackedRows<'a>,
    weights: &'a LinearWeights<'a>,
    activation: Option<Activation>,
    output: Output<'a>,
}

/// Where the product goes.
enum Output<'a> {
    /// `[rows, outputs]`.
    Floats(Disjoint<'a, f32>),
    /// Packed rows of the next layer, with one step for each panel.
    Packed(Disjoint<'a, Tile>),
}

/// The product of a range of rows, which begins with a whole block, with a range of panels. No other task may have the
/// same rows and panels.
struct Task<'a> {
    work: &'a Work<'a>,
    panels: Range<usize>,
    rows: Range<usize>,
}

/// What a thread works on.
struct Memory {
    /// The weights that are being multiplied, and the next ones.
    widened: [Widened; 2],
    /// For each block of rows.
    sums: Vec<BlockSums>,
}

thread_local! {
    /// Reused, because fresh pages would cost more than the arithmetic of a short text.
    static MEMORY: RefCell<Option<Box<Memory>>> = const { RefCell::new(None) };
}

impl Layer<'_> {
    /// Computes the product with tiles.
    pub(super) fn run_on_tiles(
        self,
        kernels: impl HasTiles,
        parallel: &dyn Parallel,
        scratch: &mut Scratch,
        output: &mut [f32],
    ) {
        let layout = PackedLayout::of(&self.weights.layout);
        let rows = self.pack(kernels, parallel, &layout, &mut scratch.tiles[0]);
        multiply(self.weights, self.activation, kernels, parallel, rows, Output::Floats(Disjoint::new(output)));
    }

    /// Computes the input of a layer with the weights `next`, which is rounded while it is in registers.
    ///
    /// # Panics
    /// Unless [`takes_packed_rows`] holds for `next`.
    pub(super) fn run_for_next_on_tiles<'a>(
        self,
        next: &LinearWeights<'_>,
        kernels: impl HasTiles,
        parallel: &dyn Parallel,
        scratch: &'a mut Scratch,
    ) -> Packed<'a> {
        assert!(takes_packed_rows(next), "a layout without moved channels");
        let layouts = [self.weights, next].map(|weights| PackedLayout::of(&weights.layout));
        let [first, second] = &mut scratch.tiles;
        let rows = self.pack(kernels, parallel, &layouts[0], first);
        let count = rows.count;
        let tiles = grow_to(second, layouts[1].tiles(count));
        multiply(self.weights, self.activation, kernels, parallel, rows, Output::Packed(Disjoint::new(tiles)));
        let [_, layout] = layouts;
        Packed { tiles, layout, count }
    }
}

/// The packed input of a layer.
pub(super) struct Packed<'a> {
    tiles: &'a [Tile],
    layout: PackedLayout,
    count: usize,
}

impl Packed<'_> {
    /// Multiplies the rows by the weights for which they were packed.
    pub(super) fn multiply(
        &self,
        kernels: impl HasTiles,
        parallel: &dyn Parallel,
        weights: &LinearWeights<'_>,
        output: &mut [f32],
    ) {
        assert_eq!(output.len(), self.count * weights.outputs, "the output must be [tokens, outputs]");
        let rows = PackedRows { tiles: self.tiles, layout: &self.layout, count: self.count };
        multiply(weights, None, kernels, parallel, rows, Output::Floats(Disjoint::new(output)));
    }
}

fn multiply(
    weights: &LinearWeights<'_>,
    activation: Option<Activation>,
    kernels: impl HasTiles,
    parallel: &dyn Parallel,
    rows: PackedRows<'_>,
    output: Output<'_>,
) {
    let partition = Partition::of(rows.count, BLOCK, weights, parallel.threads());
    let work = Work { rows, weights, activation, output };
    run_each_once(parallel, partition.tasks(), &|task| {
        let (panels, rows) = partition.task(task);
        kernels.run(Task { work: &work, panels, rows });
    });
}

/// Whether the output of a layer can be packed for these weights as it is: no channel is moved.
pub(super) fn takes_packed_rows(weights: &LinearWeights<'_>) -> bool {
    PackedLayout::of(&weights.layout).is_in_order()
}

impl TileWork for Task<'_> {
    #[inline(always)]
    fn run<B: Bf16, T: Tiles>(self, bf16: B, mut tiles: T) {
        let mut memory = MEMORY.take().unwrap_or_else(Memory::new);
        let most = (TILES_AT_ONCE / self.work.rows.layout.steps * SIDE / BLOCK).max(1) * BLOCK;
        let parts = self.rows.len().div_ceil(most).max(1);
        let each = self.rows.len().div_ceil(parts).next_multiple_of(BLOCK);
        for first in self.rows.clone().step_by(each.max(BLOCK)) {
            let rows = first..self.rows.end.min(first + each);
            multiply_panels(bf16, &mut tiles, &mut memory, self.work, self.panels.clone(), rows);
        }
        MEMORY.set(Some(memory));
    }
}

impl Memory {
    fn new() -> Box<Self> {
        Box::new(Self { widened: [[Tile::ZERO; PART * STRIPS]; 2], sums: Vec::new() })
    }
}

/// Multiplies rows by panels, one part of a panel after another.
#[inline(always)]
fn multiply_panels<B: Bf16, T: Tiles>(
    bf16: B,
    tiles: &mut T,
    memory: &mut Memory,
    work: &Work<'_>,
    panels: Range<usize>,
    rows: Range<usize>,
) {
    let steps = work.rows.layout.steps;
    let parts_per_panel = steps.div_ceil(PART);
    let parts = panels.len() * parts_per_panel;
    let part = |index: usize| {
        let first = index % parts_per_panel * PART;
        (panels.start + index / parts_per_panel, first..steps.min(first + PART))
    };
    let blocks = rows.len().div_ceil(BLOCK);
    if parts == 0 || blocks == 0 {
        return;
    }
    let sums = grow_to(&mut memory.sums, blocks);
    let mut product = Product { bf16, tiles, work, sums, rows, finished: Finished::default() };
    let [mut current, mut next] = memory.widened.each_mut();
    let (panel, first) = part(0);
    Widening::new(bf16, work, panel, first, current).advance(usize::MAX);
    for index in 0..parts {
        let (panel, steps) = part(index);
        let (next_panel, next_steps) = if index + 1 < parts { part(index + 1) } else { (panel, 0..0) };
        let mut widening = Widening::new(bf16, work, next_panel, next_steps, next);
        product.add_part(panel, steps, current, &mut widening);
        widening.advance(usize::MAX);
        std::mem::swap(&mut current, &mut next);
    }
    product.write_finished(usize::MAX);
}

/// The product of some rows and panels, in progress.
struct Product<'a, B, T> {
    bf16: B,
    /// Registers 0 to 3 hold the sums of a block, 4 and 5 its rows, 6 and 7 weights.
    tiles: &'a mut T,
    work: &'a Work<'a>,
    /// For each block of rows.
    sums: &'a mut [BlockSums],
    rows: Range<usize>,
    finished: Finished,
}

impl<B: Bf16, T: Tiles> Product<'_, B, T> {
    /// Adds the products of all rows and some steps of a panel, whose weights are `widened`. Meanwhile, advances the
    /// widening of the next weights.
    #[inline(always)]
    fn add_part(&mut self, panel: usize, steps: Range<usize>, widened: &Widened, widening: &mut Widening<'_, B>) {
        let blocks = self.sums.len();
        let is_last = steps.end == self.work.rows.layout.steps;
        let quads = widening.left().div_ceil(blocks * steps.len());
        for block in 0..blocks {
            let first_row = self.rows.start + block * BLOCK;
            let count = BLOCK.min(self.rows.end - first_row);
            let rows = [0, 1].map(|half| &self.work.rows.block(first_row + half * SIDE)[steps.clone()]);
            if steps.start == 0 {
                self.clear();
            } else if blocks > 1 {
                self.load(block);
            }
            if count > SIDE {
                self.add_steps::<true>(rows, widened, widening, quads);
            } else {
                self.add_steps::<false>(rows, widened, widening, quads);
            }
            // The sums of a single block stay in the registers until the end of the panel.
            if blocks > 1 || is_last {
                self.write_finished(usize::MAX);
                self.store(block);
            }
            if is_last {
                self.finished = Finished::new(panel, block, first_row, count);
                // SAFETY: each pair of a row and a panel belongs to exactly one task.
                unsafe { self.finished.prepare(self.bf16, self.work) };
            }
        }
    }

    /// Adds the products of a block of rows, of which `BOTH` tiles or only the first one matter.
    #[inline(always)]
    fn add_steps<const BOTH: bool>(
        &mut self,
        rows: [&[Tile]; 2],
        widened: &Widened,
        widening: &mut Widening<'_, B>,
        quads: usize,
    ) {
        let finished = self.finished.left().div_ceil(rows[0].len());
        for ((first, second), weights) in rows[0].iter().zip(rows[1]).zip(widened.chunks_exact(STRIPS)) {
            self.tiles.load::<4>(first);
            self.tiles.load::<6>(&weights[0]);
            self.tiles.add_products::<0, 4, 6>();
            widening.advance(quads);
            self.tiles.load::<7>(&weights[1]);
            self.tiles.add_products::<1, 4, 7>();
            if BOTH {
                self.tiles.load::<5>(second);
                self.tiles.add_products::<2, 5, 6>();
            }
            self.write_finished(finished);
            if BOTH {
                self.tiles.add_products::<3, 5, 7>();
            }
        }
    }

    #[inline(always)]
    fn write_finished(&mut self, count: usize) {
        // SAFETY: each pair of a row and a panel belongs to exactly one task.
        unsafe { self.finished.write(self.bf16, self.work, self.sums, count) };
    }

    #[inline(always)]
    fn clear(&mut self) {
        self.tiles.clear::<0>();
        self.tiles.clear::<1>();
        self.tiles.clear::<2>();
        self.tiles.clear::<3>();
    }

    #[inline(always)]
    fn load(&mut self, block: usize) {
        let sums = &self.sums[block];
        self.tiles.load_sums::<0>(&sums[0]);
        self.tiles.load_sums::<1>(&sums[1]);
        self.tiles.load_sums::<2>(&sums[2]);
        self.tiles.load_sums::<3>(&sums[3]);
    }

    #[inline(always)]
    fn store(&mut self, block: usize) {
        let sums = &mut self.sums[block];
        self.tiles.store::<0>(&mut sums[0]);
        self.tiles.store::<1>(&mut sums[1]);
        self.tiles.store::<2>(&mut sums[2]);
        self.tiles.store::<3>(&mut sums[3]);
    }
}
