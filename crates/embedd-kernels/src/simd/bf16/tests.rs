use super::plain::nearest;
use super::*;
use crate::simd::plain::Plain;
use crate::testing::Numbers;
use crate::tiles::{HasTiles, TileWork, Tiles};
use crate::{InstructionSet, Kernels};

/// Applies every operation to some numbers.
struct Everything<'a> {
    /// A multiple of 32.
    floats: &'a [f32],
    /// For 16 columns each.
    scales: &'a [f32],
    /// For 16 columns each.
    weights: &'a [i8],
    rounded: &'a mut Vec<f32>,
    stored: &'a mut Vec<u16>,
    pairs: &'a mut Vec<u16>,
    widened: &'a mut Vec<u16>,
}

impl TileWork for Everything<'_> {
    #[inline(always)]
    fn run<B: Bf16, T: Tiles>(self, bf16: B, _: T) {
        let s = bf16.simd();
        let lanes = B::Simd::LANES;
        *self.rounded = self.floats.to_vec();
        *self.stored = vec![0; self.floats.len()];
        *self.pairs = vec![0; self.floats.len()];
        for at in (0..self.floats.len()).step_by(lanes) {
            let vector = s.load(&self.floats[at..]);
            s.store(&mut self.rounded[at..], bf16.round(vector));
            bf16.store(&mut self.stored[at..], vector);
        }
        // The first half of the numbers, paired with the second half.
        let half = self.floats.len() / 2;
        for at in (0..half).step_by(lanes) {
            let [even, odd] = [&self.floats[at..], &self.floats[half + at..]].map(|from| s.load(from));
            bf16.store_pairs(&mut self.pairs[2 * at..], even, odd);
        }
        *self.widened = vec![0; self.weights.len()];
        let weights = self.weights.chunks_exact(COLUMNS * CHANNELS);
        let widened = self.widened.chunks_exact_mut(COLUMNS * CHANNELS);
        for ((weights, scales), to) in weights.zip(self.scales.chunks_exact(COLUMNS)).zip(widened) {
            let scales = bf16.scales(scales);
            bf16.widen(weights, scales, to);
        }
    }
}

/// Half-way between two numbers with 8 bits.
const TIES: [f32; 2] = [1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0];

/// Numbers of all sizes, and those that are special.
fn floats() -> Vec<f32> {
    let mut numbers = Numbers::new(1);
    let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-40, -1e-44];
    let ties = [TIES[0], TIES[1], -TIES[0], 2.0 * TIES[1]];
    let any = std::iter::repeat_with(|| f32::from_bits(numbers.next() as u32)).filter(|value| !value.is_nan());
    special.into_iter().chain(ties).chain(any).take(4096).collect()
}

fn everything(on: impl HasTiles, floats: &[f32], scales: &[f32], weights: &[i8]) -> [Vec<u32>; 4] {
    let [mut stored, mut pairs, mut widened] = [const { Vec::new() }; 3];
    let mut rounded = Vec::new();
    on.run(Everything {
        floats,
        scales,
        weights,
        rounded: &mut rounded,
        stored: &mut stored,
        pairs: &mut pairs,
        widened: &mut widened,
    });
    let words = |words: Vec<u16>| words.into_iter().map(u32::from).collect();
    [rounded.into_iter().map(f32::to_bits).collect(), words(stored), words(pairs), words(widened)]
}

/// Scales of all sizes that occur, each with all weights.
fn weights() -> (Vec<f32>, Vec<i8>) {
    let mut numbers = Numbers::new(2);
    let mut scales = Vec::new();
    let mut weights = Vec::new();
    for size in [1e-20, 1e-6, 1e-3, 0.1, 1.0, 1e10] {
        for first in -128..=127_i32 {
            scales.extend(numbers.floats(COLUMNS).iter().map(|scale| scale.abs() * size));
            weights.extend((0..(COLUMNS * CHANNELS) as i32).map(|index| (first + 37 * index) as i8));
        }
    }
    (scales, weights)
}

#[test]
fn vectors_have_the_bits_of_plain_operations() {
    let floats = floats();
    let (scales, weights) = weights();
    let expected = everything(crate::tiles::tests::PlainTiles, &floats, &scales, &weights);
    for set in [InstructionSet::AmxBf16, InstructionSet::EmulatedAmxBf16] {
        // Sets that this CPU does not support are reported by other tests.
        let Some(tiles) = Kernels::of(set).and_then(Kernels::tiles) else { continue };
        let found = everything(tiles, &floats, &scales, &weights);
        for (operation, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let different = found.iter().zip(expected).position(|(found, expected)| found != expected);
            assert_eq!(different, None, "{set}, operation {operation}");
        }
    }
}

#[test]
fn numbers_are_rounded_to_the_nearest_with_8_bits() {
    for value in floats() {
        let rounded = f32::from_bits(u32::from(nearest(value)) << 16);
        if value.abs() < f32::MIN_POSITIVE {
            assert_eq!(rounded, 0.0, "{value}");
        } else if value.abs() > 3.4e38 {
            assert!(rounded.is_infinite(), "{value}");
        } else {
            assert!((rounded - value).abs() <= value.abs() / 256.0, "{value} becomes {rounded}");
        }
    }
    // Half-way between two numbers, the even one.
    assert_eq!(TIES.map(nearest), [0x3f80, 0x3f82]);
    assert_ne!(nearest(f32::from_bits(0x7f80_0001)) & 0x7f, 0, "NaN stays NaN");
}

#[test]
fn widened_weights_are_products_with_their_scales() {
    let (scales, weights) = weights();
    let prepared = Plain.scales(&scales[..COLUMNS]);
    let mut widened = [0; COLUMNS * CHANNELS];
    Plain.widen(&weights, prepared, &mut widened);
    for column in 0..COLUMNS {
        for channel in 0..CHANNELS {
            let expected = f64::from(weights[column * CHANNELS + channel]) * f64::from(scales[column]);
            let found = widened[channel / 2 * 2 * COLUMNS + 2 * column + channel % 2];
            let found = f64::from(f32::from_bits(u32::from(found) << 16));
            assert!((found - expected).abs() <= expected.abs() / 250.0, "{column}, {channel}: {found}, not {expected}");
        }
    }
}

#[test]
fn rounded_scales_have_15_bits() {
    let mut numbers = Numbers::new(3);
    for scale in numbers.floats(1000) {
        let rounded = rounded_scale(scale);
        assert_eq!(rounded.to_bits() % (1 << 9), 0);
        assert!((rounded - scale).abs() <= scale.abs() / 32768.0, "{scale} becomes {rounded}");
    }
}
