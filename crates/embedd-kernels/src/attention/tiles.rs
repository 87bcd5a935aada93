//! Attention with tiles of bfloat16.
//!
//! A float32 is split into the nearest bfloat16 and, for what is left, another one. Of the product of two numbers, the
//! three larger parts are added up. That is as accurate as numbers with 17 bits, and the sums are float32.
#![allow(unsafe_code)]

use std::ops::Range;

use super::head::{cut, hide, softmax, write};
use super::work::Work;
use super::{Distances, Scratch};
use crate::multiply::{Rows, padded};
use crate::simd::Simd;
use crate::simd::bf16::Bf16;
use crate::tiles::{SIDE, STEP, Tile, TileWork, Tiles};

/// The minimum number of tokens of a text. In a shorter one, packing costs more than the products. The choice depends only
/// on the text, because the bits differ from those of float32 vectors.
const MIN_TOKENS: usize = 64;

/// Each matrix is packed as two: the nearest numbers, and the rest.
const PARTS: usize = 2;
/// Tiles of keys whose scores are computed together: those of a step of the product with the values.
const KEY_TILES: usize = STEP / SIDE;
/// Tiles of channels whose sums are computed together.
const CHANNEL_TILES: usize = 4;

/// Whether a task on a text of this length is worth tiles.
pub(super) fn is_worth_using(tokens: usize, distances: &Distances<'_>) -> bool {
    tokens >= MIN_TOKENS && !matches!(distances, Distances::Disentangled(_))
}

/// Runs a task. No other thread may run the same one.
pub(super) struct AttendOnTiles<'a> {
    pub(super) work: Work<'a>,
    pub(super) scratch: &'a mut Scratch,
}

/// The tiles of one head and one block of queries.
struct Packed<'a> {
    /// `[steps of channels, PARTS]`
    queries: &'a mut [Tile],
    /// `[tiles of keys, steps of channels, PARTS]`
    keys: &'a mut [Tile],
    /// `[steps of keys, tiles of channels, PARTS]`
    values: &'a mut [Tile],
    /// `[steps of keys, PARTS]`
    weights: &'a mut [Tile],
}

impl TileWork for AttendOnTiles<'_> {
    #[inline(always)]
    fn run<B: Bf16, T: Tiles>(self, bf16: B, mut tiles: T) {
        let s = bf16.simd();
        let work = self.work;
        let task = work.task;
        let size = work.input.heads.size;
        let keys = task.text.len();
        let padded_keys = keys.next_multiple_of(STEP);
        let sums_stride = size.next_multiple_of(SIDE);
        let steps = size.div_ceil(STEP);
        let Scratch { floats, tiles: memory } = self.scratch;
        let [scores, sums, columns] = cut(floats, [SIDE * padded_keys, SIDE * sums_stride, STEP * SIDE]);
        let lengths = [
            steps * PARTS,
            padded_keys / SIDE * steps * PARTS,
            padded_keys / STEP * sums_stride / SIDE * PARTS,
            padded_keys / STEP * PARTS,
        ];
        let [queries, key_tiles, values, weights] = cut_tiles(memory, lengths);
        let packed = Packed { queries, keys: key_tiles, values, weights };
        let mut packed_head = None;
        for head in task.heads.clone() {
            // Neighboring query heads may share their keys and values.
            let key_head = work.key_head(head);
            if packed_head != Some(key_head) {
                pack_keys(bf16, work.keys(head), columns, packed.keys);
                pack_values(bf16, work.values(head), packed.values);
                packed_head = Some(key_head);
            }
            for first in task.queries.clone().step_by(SIDE) {
                let count = SIDE.min(task.queries.end - first);
                let position = first - task.text.start;
                let rows = work.queries(head).part(position, count);
                for row in 0..count {
                    pack_row(bf16, rows.row(row), row, packed.queries);
                }
                let within = work.within_reach(position, count, STEP);
                let visible = within.len();
                let stride = visible.next_multiple_of(STEP);
                let key_steps = within.start / STEP..within.end.div_ceil(STEP);
                add_scores(&mut tiles, &packed, key_steps.clone(), stride, scores);
                let mut totals = [0.0; SIDE];
                for (index, row) in scores.chunks_exact_mut(stride).take(count).enumerate() {
                    let (row, padding) = row.split_at_mut(padded::<B::Simd>(visible));
                    let reach = work.input.reach.keys(position + index, keys);
                    hide(row, reach.start - within.start..reach.end - within.start, visible);
                    let bias = work.bias(head, first + index, within.clone());
                    totals[index] = softmax(s, row, visible, work.scale(), bias);
                    padding.fill(0.0);
                }
                for (index, row) in scores.chunks_exact(stride).take(count).enumerate() {
                    pack_row(bf16, row, index, packed.weights);
                }
                add_values(&mut tiles, &packed, key_steps, sums_stride, sums);
                for (index, row) in sums.chunks_exact(sums_stride).take(count).enumerate() {
                    let start = ((first + index) * work.input.heads.query + head) * size;
                    // SAFETY: `plan` puts each pair of a query and a head into exactly one task (its tests check this),
                    // and each task runs once.
                    let output = unsafe { work.outputs.slice(start..start + size) };
                    write(s, &row[..padded::<B::Simd>(size)], 1.0 / totals[index], output);
                }
            }
        }
    }
}

/// Cuts slices of `lengths` out of `tiles`.
#[inline(always)]
fn cut_tiles<const N: usize>(tiles: &mut Vec<Tile>, lengths: [usize; N]) -> [&mut [Tile]; N] {
    let whole = lengths.iter().sum();
    if tiles.len() < whole {
        tiles.resize(whole, Tile::ZERO);
    }
    let mut rest = &mut tiles[..];
    lengths.map(|length| {
        let (part, after) = std::mem::take(&mut rest).split_at_mut(length);
        rest = after;
        part
    })
}

/// Packs a row as row `row` of left-hand tiles, `[steps, PARTS]`. Missing values are 0.
#[inline(always)]
fn pack_row<B: Bf16>(bf16: B, values: &[f32], row: usize, to: &mut [Tile]) {
    let s = bf16.simd();
    let whole = values.len().next_multiple_of(STEP);
    for at in (0..whole).step_by(B::Simd::LANES) {
        let vector = if at < values.len() { s.load_part(&values[at..]) } else { s.splat(0.0) };
        let [nearest, rest] = parts_of(to, at / STEP);
        bf16.store(&mut nearest.row_mut(row)[at % STEP..], vector);
        bf16.store(&mut rest.row_mut(row)[at % STEP..], s.sub(vector, bf16.round(vector)));
    }
}

/// Packs the text's keys as right-hand tiles: a column for each key, a pair for two channels. `columns` is memory for
/// `[32 channels, 16 keys]`.
#[inline(always)]
fn pack_keys<B: Bf16>(bf16: B, keys: Rows<'_>, columns: &mut [f32], to: &mut [Tile]) {
    const SQUARE: usize = 8;
    let s = bf16.simd();
    let steps = keys.columns.div_ceil(STEP);
    let zeros = [0.0; SQUARE];
    for first in (0..keys.count.next_multiple_of(STEP)).step_by(SIDE) {
        for step in 0..steps {
            for key in (0..SIDE).step_by(SQUARE) {
                for channel in (0..STEP).step_by(SQUARE) {
                    let from = step * STEP + channel;
                    let mut last = [[0.0; SQUARE]; SQUARE];
                    let mut rows = [&zeros[..]; SQUARE];
                    for (index, (row, last)) in rows.iter_mut().zip(&mut last).enumerate() {
                        let key = first + key + index;
                        if key >= keys.count || from >= keys.columns {
                            continue;
                        }
                        let values = &keys.row(key)[from..];
                        if values.len() < SQUARE {
                            last[..values.len()].copy_from_slice(values);
                            *row = last;
                        } else {
                            *row = values;
                        }
                    }
                    s.transpose_8x8(rows, &mut columns[channel * SIDE + key..], SIDE);
                }
            }
            let [nearest, rest] = parts_of(to, first / SIDE * steps + step);
            pack_pairs(bf16, columns, nearest, rest);
        }
    }
}

/// Packs the text's values as right-hand tiles: a column for each channel, a pair for two keys.
#[inline(always)]
fn pack_values<B: Bf16>(bf16: B, values: Rows<'_>, to: &mut [Tile]) {
    let s = bf16.simd();
    let channel_tiles = values.columns.div_ceil(SIDE);
    for first in (0..values.count).step_by(STEP) {
        for tile in 0..channel_tiles {
            let [nearest, rest] = parts_of(to, first / STEP * channel_tiles + tile);
            for pair in 0..SIDE {
                let rows = [2 * pair, 2 * pair + 1]
                    .map(|key| if first + key < values.count { values.row(first + key) } else { &[] });
                for at in (0..SIDE).step_by(B::Simd::LANES) {
                    let channel = tile * SIDE + at;
                    let mut vectors = [s.splat(0.0); 2];
                    for (vector, row) in vectors.iter_mut().zip(rows) {
                        if channel < row.len() {
                            *vector = s.load_part(&row[channel..]);
                        }
                    }
                    store_pairs(bf16, vectors, &mut nearest.row_mut(pair)[2 * at..], &mut rest.row_mut(pair)[2 * at..]);
                }
            }
        }
    }
}

/// Packs `[32 channels, 16 columns]` as a right-hand tile.
#[inline(always)]
fn pack_pairs<B: Bf16>(bf16: B, columns: &[f32], nearest: &mut Tile, rest: &mut Tile) {
    let s = bf16.simd();
    for (pair, rows) in columns.chunks_exact(2 * SIDE).enumerate() {
        for at in (0..SIDE).step_by(B::Simd::LANES) {
            let vectors = [s.load(&rows[at..]), s.load(&rows[SIDE + at..])];
            store_pairs(bf16, vectors, &mut nearest.row_mut(pair)[2 * at..], &mut rest.row_mut(pair)[2 * at..]);
        }
    }
}

#[inline(always)]
fn store_pairs<B: Bf16>(bf16: B, [even, odd]: [<B::Simd as Simd>::F32; 2], nearest: &mut [u16], rest: &mut [u16]) {
    let s = bf16.simd();
    bf16.store_pairs(nearest, even, odd);
    bf16.store_pairs(rest, s.sub(even, bf16.round(even)), s.sub(odd, bf16.round(odd)));
}

/// The two parts of a matrix's tile.
#[inline(always)]
fn parts_of(tiles: &mut [Tile], index: usize) -> [&mut Tile; PARTS] {
    let [nearest, rest] = &mut tiles[index * PARTS..][..PARTS] else { unreachable!("two parts") };
    [nearest, rest]
}

/// Computes the dot products of the packed queries and some keys.
#[inline(always)]
fn add_scores<T: Tiles>(
    tiles: &mut T,
    packed: &Packed<'_>,
    key_steps: Range<usize>,
    stride: usize,
    scores: &mut [f32],
) {
    let steps = packed.queries.len() / PARTS;
    for (index, key_step) in key_steps.enumerate() {
        let keys = [0, 1].map(|tile| &packed.keys[(key_step * KEY_TILES + tile) * steps * PARTS..][..steps * PARTS]);
        tiles.clear::<0>();
        tiles.clear::<1>();
        for step in (0..steps * PARTS).step_by(PARTS) {
            tiles.load::<4>(&packed.queries[step]);
            tiles.load::<6>(&keys[0][step]);
            tiles.add_products::<0, 4, 6>();
            tiles.load::<7>(&keys[1][step]);
            tiles.add_products::<1, 4, 7>();
            tiles.load::<5>(&packed.queries[step + 1]);
            tiles.add_products::<0, 5, 6>();
            tiles.add_products::<1, 5, 7>();
            tiles.load::<6>(&keys[0][step + 1]);
            tiles.add_products::<0, 4, 6>();
            tiles.load::<7>(&keys[1][step + 1]);
            tiles.add_products::<1, 4, 7>();
        }
        tiles.store_rows::<0>(&mut scores[index * STEP..], stride);
        tiles.store_rows::<1>(&mut scores[index * STEP + SIDE..], stride);
    }
}

/// Computes the sums of some keys' values, multiplied by the packed weights.
#[inline(always)]
fn add_values<T: Tiles>(tiles: &mut T, packed: &Packed<'_>, key_steps: Range<usize>, stride: usize, sums: &mut [f32]) {
    let channel_tiles = stride / SIDE;
    for first in (0..channel_tiles).step_by(CHANNEL_TILES) {
        let count = CHANNEL_TILES.min(channel_tiles - first);
        tiles.clear::<0>();
        tiles.clear::<1>();
        tiles.clear::<2>();
        tiles.clear::<3>();
        for (index, key_step) in key_steps.clone().enumerate() {
            let values = &packed.values[(key_step * channel_tiles + first) * PARTS..][..count * PARTS];
            tiles.load::<4>(&packed.weights[index * PARTS]);
            tiles.load::<5>(&packed.weights[index * PARTS + 1]);
            add_tile::<0, 6>(tiles, values, 0);
            add_tile::<1, 7>(tiles, values, 1);
            add_tile::<2, 6>(tiles, values, 2);
            add_tile::<3, 7>(tiles, values, 3);
        }
        let sums = &mut sums[first * SIDE..];
        tiles.store_rows::<0>(sums, stride);
        if count > 1 {
            tiles.store_rows::<1>(&mut sums[SIDE..], stride);
        }
        if count > 2 {
            tiles.store_rows::<2>(&mut sums[2 * SIDE..], stride);
        }
        if count > 3 {
            tiles.store_rows::<3>(&mut sums[3 * SIDE..], stride);
        }
    }
}

/// Adds the products of the weights in registers 4 and 5 and the tile `tile` of `values`, if there is one.
#[inline(always)]
fn add_tile<const SUMS: usize, const VALUES: usize>(tiles: &mut impl Tiles, values: &[Tile], tile: usize) {
    if let Some([nearest, rest]) = values.get(tile * PARTS..(tile + 1) * PARTS) {
        tiles.load::<VALUES>(nearest);
        tiles.add_products::<SUMS, 4, VALUES>();
        tiles.add_products::<SUMS, 5, VALUES>();
        tiles.load::<VALUES>(rest);
        tiles.add_products::<SUMS, 4, VALUES>();
    }
}
