use super::emulated::Emulated;
use super::*;
use crate::simd::bf16::plain::nearest;
use crate::simd::plain::Plain;
use crate::testing::Numbers;
use crate::{InstructionSet, Kernels};

/// Emulated registers and plain vectors, which every CPU has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainTiles;

impl HasTiles for PlainTiles {
    fn run<W: TileWork>(self, work: W) {
        work.run(Plain, Emulated::new());
    }
}

/// Some products, one added to the other, and where their sums go.
struct Products<'a> {
    start: &'a Sums,
    rows: [&'a Tile; 2],
    columns: [&'a Tile; 2],
    to: &'a mut Sums,
    /// With rows of 20 floats.
    rows_to: &'a mut [f32],
}

impl TileWork for Products<'_> {
    #[inline(always)]
    fn run<B: Bf16, T: Tiles>(self, _: B, mut tiles: T) {
        tiles.load_sums::<3>(self.start);
        tiles.load::<4>(self.rows[0]);
        tiles.load::<7>(self.columns[0]);
        tiles.add_products::<3, 4, 7>();
        tiles.load::<5>(self.rows[1]);
        tiles.load::<6>(self.columns[1]);
        tiles.add_products::<3, 5, 6>();
        tiles.store::<3>(self.to);
        tiles.clear::<0>();
        tiles.add_products::<0, 5, 7>();
        tiles.store_rows::<0>(self.rows_to, 20);
    }
}

fn tile(numbers: &mut Numbers, scale: f32) -> Tile {
    let mut tile = Tile::ZERO;
    tile.0.iter_mut().zip(numbers.floats(SIDE * STEP)).for_each(|(to, value)| *to = nearest(value * scale));
    tile
}

fn products(on: impl HasTiles, seed: u64) -> (Sums, Vec<f32>, [Tile; 4], Sums) {
    let mut numbers = Numbers::new(seed);
    let factors = [0.01, 3.0, 1e4, 1e-6].map(|scale| tile(&mut numbers, scale));
    let mut start = Sums::ZERO;
    start.0.copy_from_slice(&numbers.floats(SIDE * SIDE));
    let [mut to, mut rows_to] = [Sums::ZERO, Sums::ZERO].map(|sums| (sums, vec![7.0; 20 * SIDE]));
    on.run(Products {
        start: &start,
        rows: [&factors[0], &factors[1]],
        columns: [&factors[2], &factors[3]],
        to: &mut to.0,
        rows_to: &mut rows_to.1,
    });
    (to.0, rows_to.1, factors, start)
}

fn value(tile: &Tile, index: usize) -> f64 {
    f64::from(f32::from_bits(u32::from(tile.0[index]) << 16))
}

/// The product of a row and a column in float64, and the sum of its terms' sizes.
fn exact(rows: &Tile, columns: &Tile, row: usize, column: usize) -> (f64, f64) {
    let terms = (0..STEP).map(|channel| {
        value(rows, row * STEP + channel) * value(columns, channel / 2 * STEP + 2 * column + channel % 2)
    });
    terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()))
}

#[test]
fn emulated_registers_multiply_matrices() {
    let (to, rows_to, factors, start) = products(PlainTiles, 1);
    for row in 0..SIDE {
        for column in 0..SIDE {
            let at = row * SIDE + column;
            let parts = [(0, 2), (1, 3), (1, 2)].map(|(a, b)| exact(&factors[a], &factors[b], row, column));
            let expected = f64::from(start.0[at]) + parts[0].0 + parts[1].0;
            let size = f64::from(start.0[at].abs()) + parts[0].1 + parts[1].1;
            assert!((f64::from(to.0[at]) - expected).abs() < 1e-6 * size, "{row}, {column}");
            let found = f64::from(rows_to[row * 20 + column]);
            assert!((found - parts[2].0).abs() < 1e-6 * parts[2].1, "{row}, {column} in rows");
        }
        assert!(rows_to[row * 20 + SIDE..][..4].iter().all(|&after| after == 7.0), "row {row} is too long");
    }
}

/// 2^24 + 1 is not a float32, so these sums show which numbers are added first.
#[test]
fn even_and_odd_channels_are_added_up_separately_and_then_to_the_sum() {
    /// Channels with the numbers of a row and of a column; the sum before; the sum afterward.
    type Case = (&'static [(usize, f32, f32)], f32, f32);
    /// 2^12. Its square plus 1 is rounded to 2^24.
    const LARGE: f32 = 4096.0;
    let cases: [Case; 4] = [
        // The even channels: 2^24, then 1, then -2^24.
        (&[(0, LARGE, LARGE), (2, 1.0, 1.0), (4, -LARGE, LARGE)], 0.0, 0.0),
        // The odd ones keep the 1.
        (&[(0, LARGE, LARGE), (1, 1.0, 1.0), (2, -LARGE, LARGE)], 0.0, 1.0),
        // The sum is added last.
        (&[(0, LARGE, LARGE), (1, -LARGE, LARGE)], 1.0, 1.0),
        (&[(0, LARGE, LARGE), (3, 1.0, 1.0)], -LARGE * LARGE, 0.0),
    ];
    for (index, (channels, start, expected)) in cases.into_iter().enumerate() {
        let [mut rows, mut columns] = [Tile::ZERO; 2];
        for &(channel, row, column) in channels {
            rows.0[channel] = nearest(row);
            columns.0[channel / 2 * STEP + channel % 2] = nearest(column);
        }
        let zero = Tile::ZERO;
        let mut to = Sums::ZERO;
        let mut sums = Sums::ZERO;
        sums.0[0] = start;
        PlainTiles.run(Products {
            start: &sums,
            rows: [&rows, &zero],
            columns: [&columns, &zero],
            to: &mut to,
            rows_to: &mut [0.0; 20 * SIDE],
        });
        assert_eq!(to.0[0], expected, "case {index}");
    }
}

#[test]
fn registers_have_the_bits_of_their_emulation() {
    for set in [InstructionSet::AmxBf16, InstructionSet::EmulatedAmxBf16] {
        // Sets that this CPU does not support are reported by other tests.
        let Some(tiles) = Kernels::of(set).and_then(Kernels::tiles) else { continue };
        for seed in 0..50 {
            let [(found, found_rows, ..), (expected, expected_rows, ..)] =
                [products(tiles, seed), products(PlainTiles, seed)];
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&found.0), bits(&expected.0), "{set}, seed {seed}");
            assert_eq!(bits(&found_rows), bits(&expected_rows), "{set}, seed {seed}");
        }
    }
}
