//! Rows of floats to unsigned bytes with a scale and a zero point for each row and group.

use crate::layout::Group;
use crate::simd::{Simd, Vectorized};

/// The greatest integer of 8 bits.
const LARGEST_BYTE: f32 = 255.0;
/// The greatest integer of 16 bits.
const LARGEST_PAIR: f32 = 65535.0;
/// The scale of a group of zeros; its inverse is finite.
const LEAST_SCALE: f32 = 1e-30;

/// Quantises `input`, `[rows, inputs]`, to `bytes`, `[rows, row_bytes]`, and `factors`, `[rows, groups, 2]`: the scale,
/// and the scale times the zero point, negated.
///
/// For a group from `least` to `most`, widened to hold 0: `scale = (most - least) / 255`,
/// `zero = round(-least / scale)`, `byte = round(x / scale) + zero`; split channels have 65535 in place of 255. Every
/// instruction set makes the same bytes.
pub(super) struct Rows<'a> {
    pub(super) input: &'a [f32],
    pub(super) inputs: usize,
    pub(super) groups: &'a [Group],
    pub(super) bytes: &'a mut [u8],
    pub(super) factors: &'a mut [f32],
}

impl Vectorized for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let row_bytes = self.groups.last().map_or(0, |group| group.bytes.end);
        let row_factors = 2 * self.groups.len();
        for (index, row) in self.input.chunks_exact(self.inputs).enumerate() {
            let bytes = &mut self.bytes[index * row_bytes..][..row_bytes];
            let factors = &mut self.factors[index * row_factors..][..row_factors];
            quantize_row(s, row, self.groups, bytes, factors);
        }
    }
}

/// Groups whose ranges are found together: the divisions of one need not wait for those of another.
const TOGETHER: usize = 16;

#[inline(always)]
fn quantize_row<S: Simd>(s: S, row: &[f32], groups: &[Group], bytes: &mut [u8], factors: &mut [f32]) {
    let mut bounds = [(0.0, 0.0); TOGETHER];
    let mut ranges = [Range { scale: 0.0, inverse: 0.0, zero: 0.0, largest: 0.0 }; TOGETHER];
    for (groups, factors) in groups.chunks(TOGETHER).zip(factors.chunks_mut(2 * TOGETHER)) {
        for (group, bounds) in groups.iter().zip(&mut bounds) {
            *bounds = least_and_most(s, &row[group.channels.clone()]);
        }
        for (group, (range, bounds)) in groups.iter().zip(ranges.iter_mut().zip(&bounds)) {
            *range = Range::of(*bounds, if group.split { LARGEST_PAIR } else { LARGEST_BYTE });
        }
        for ((group, range), factors) in groups.iter().zip(&ranges).zip(factors.chunks_exact_mut(2)) {
            let (values, bytes) = (&row[group.channels.clone()], &mut bytes[group.bytes.clone()]);
            if group.split {
                split_group(s, values, *range, bytes);
            } else {
                byte_group(s, values, *range, bytes);
            }
            factors.copy_from_slice(&[range.scale, -range.scale * range.zero]);
        }
    }
}

/// The bounds of the values and 0.
#[inline(always)]
fn least_and_most<S: Simd>(s: S, values: &[f32]) -> (f32, f32) {
    let (mut least, mut most) = (s.splat(0.0), s.splat(0.0));
    let whole = values.len() / S::LANES * S::LANES;
    let mut at = 0;
    while at < whole {
        let vector = s.load(&values[at..]);
        (least, most) = (s.min(least, vector), s.max(most, vector));
        at += S::LANES;
    }
    if at < values.len() {
        let vector = s.load_first(&values[at..]);
        (least, most) = (s.min(least, vector), s.max(most, vector));
    }
    (-s.greatest(s.sub(s.splat(0.0), least)), s.greatest(most))
}

/// What a group's integers stand for: `x = scale (integer - zero)`.
#[derive(Clone, Copy)]
struct Range {
    scale: f32,
    inverse: f32,
    /// An integer.
    zero: f32,
    largest: f32,
}

impl Range {
    #[inline(always)]
    fn of((least, most): (f32, f32), largest: f32) -> Self {
        let scale = ((most - least) / largest).max(LEAST_SCALE);
        let inverse = 1.0 / scale;
        Self { scale, inverse, zero: (-least * inverse).round_ties_even(), largest }
    }

    /// Between 0 and `largest`.
    #[inline(always)]
    fn integers<S: Simd>(self, s: S, values: S::F32) -> S::F32 {
        let shifted = s.add(s.round(s.mul(values, s.splat(self.inverse))), s.splat(self.zero));
        s.min(s.max(shifted, s.splat(0.0)), s.splat(self.largest))
    }
}

/// The group's values become bytes, and what is beyond them 0.
#[inline(always)]
fn byte_group<S: Simd>(s: S, values: &[f32], range: Range, bytes: &mut [u8]) {
    let (bytes, beyond) = bytes.split_at_mut(values.len());
    // `fill` calls a function even where there is nothing to fill.
    if !beyond.is_empty() {
        beyond.fill(0);
    }
    let whole = values.len() / S::LANES * S::LANES;
    let mut at = 0;
    while at < whole {
        s.store_bytes(&mut bytes[at..], range.integers(s, s.load(&values[at..])));
        at += S::LANES;
    }
    if at < values.len() {
        s.store_bytes_first(&mut bytes[at..], range.integers(s, s.load_first(&values[at..])));
    }
}

/// As [`byte_group`], with 16 bits: the high bytes of all values, then the low ones.
#[inline(always)]
fn split_group<S: Simd>(s: S, values: &[f32], range: Range, bytes: &mut [u8]) {
    let (high, low) = bytes.split_at_mut(bytes.len() / 2);
    high[values.len()..].fill(0);
    low[values.len()..].fill(0);
    let mut at = 0;
    while at < values.len() {
        let count = (values.len() - at).min(S::LANES);
        let integers = range.integers(s, s.load_first(&values[at..]));
        // Rounded down: a 256th is exact, and half of one less than a half never reaches the next integer.
        let highs = s.round(s.sub(s.mul(integers, s.splat(1.0 / 256.0)), s.splat(0.5 - 1.0 / 512.0)));
        let lows = s.sub(integers, s.mul(highs, s.splat(256.0)));
        s.store_bytes_first(&mut high[at..at + count], highs);
        s.store_bytes_first(&mut low[at..at + count], lows);
        at += count;
    }
}
