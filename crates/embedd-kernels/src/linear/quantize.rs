//! Quantizes activations to unsigned bytes, with a scale and a zero point for each row and group.

use crate::layout::Group;
use crate::simd::{Simd, Vectorized};

/// The largest 8-bit integer.
const MAX_8_BIT: f32 = 255.0;
/// The largest 16-bit integer.
const MAX_16_BIT: f32 = 65535.0;
/// The scale of a group of zeros; its reciprocal is finite.
const MIN_SCALE: f32 = 1e-30;

/// Quantizes `input`, `[rows, inputs]`, to `bytes`, `[rows, stride]`, and `factors`, `[rows, groups, 2]`: the scale,
/// and minus the scale times the zero point.
///
/// `min` and `max` are the minimum and maximum of a group's values and 0. Then `scale = (max - min) / 255`,
/// `zero = round(-min / scale)` and `byte = round(x / scale) + zero`; outlier channels use 65535 instead of 255. Every
/// instruction set computes the same bytes. Each row is at the end of its `stride` bytes.
pub(super) struct Rows<'a> {
    pub(super) input: &'a [f32],
    pub(super) inputs: usize,
    pub(super) groups: &'a [Group],
    pub(super) bytes: &'a mut [u8],
    pub(super) stride: usize,
    pub(super) factors: &'a mut [f32],
}

impl Vectorized for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let row_bytes = self.groups.last().map_or(0, |group| group.bytes.end);
        let row_factors = 2 * self.groups.len();
        for (index, row) in self.input.chunks_exact(self.inputs).enumerate() {
            let end = (index + 1) * self.stride;
            let bytes = &mut self.bytes[end - row_bytes..end];
            let factors = &mut self.factors[index * row_factors..][..row_factors];
            quantize_row(s, row, self.groups, bytes, factors);
        }
    }
}

/// The number of groups whose ranges are computed together, so that their divisions overlap.
const GROUPS_AT_ONCE: usize = 16;

#[inline(always)]
fn quantize_row<S: Simd>(s: S, row: &[f32], groups: &[Group], bytes: &mut [u8], factors: &mut [f32]) {
    let mut bounds = [(0.0, 0.0); GROUPS_AT_ONCE];
    let mut ranges = [Range { scale: 0.0, inverse: 0.0, zero: 0.0, largest: 0.0 }; GROUPS_AT_ONCE];
    for (groups, factors) in groups.chunks(GROUPS_AT_ONCE).zip(factors.chunks_mut(2 * GROUPS_AT_ONCE)) {
        for (group, bounds) in groups.iter().zip(&mut bounds) {
            *bounds = min_and_max(s, &row[group.channels.clone()]);
        }
        for (group, (range, bounds)) in groups.iter().zip(ranges.iter_mut().zip(&bounds)) {
            *range = Range::of(*bounds, if group.split { MAX_16_BIT } else { MAX_8_BIT });
        }
        for ((group, range), factors) in groups.iter().zip(&ranges).zip(factors.chunks_exact_mut(2)) {
            let values = &row[group.channels.clone()];
            let bytes = &mut bytes[group.bytes.clone()];
            if group.split {
                outlier_group(s, values, *range, bytes);
            } else {
                byte_group(s, values, *range, bytes);
            }
            factors.copy_from_slice(&[range.scale, -range.scale * range.zero]);
        }
    }
}

/// The minimum and maximum of the values and 0.
#[inline(always)]
fn min_and_max<S: Simd>(s: S, values: &[f32]) -> (f32, f32) {
    let mut min = s.splat(0.0);
    let mut max = s.splat(0.0);
    let whole = values.len() / S::LANES * S::LANES;
    let mut at = 0;
    while at < whole {
        let vector = s.load(&values[at..]);
        min = s.min(min, vector);
        max = s.max(max, vector);
        at += S::LANES;
    }
    if at < values.len() {
        let vector = s.load_first(&values[at..]);
        min = s.min(min, vector);
        max = s.max(max, vector);
    }
    (-s.max_lane(s.sub(s.splat(0.0), min)), s.max_lane(max))
}

/// Maps a group's values to integers: `x = scale * (integer - zero)`.
#[derive(Clone, Copy)]
struct Range {
    scale: f32,
    /// `1 / scale`.
    inverse: f32,
    /// The zero point, an integer.
    zero: f32,
    largest: f32,
}

impl Range {
    #[inline(always)]
    fn of((min, max): (f32, f32), largest: f32) -> Self {
        let scale = ((max - min) / largest).max(MIN_SCALE);
        let inverse = 1.0 / scale;
        Self { scale, inverse, zero: (-min * inverse).round_ties_even(), largest }
    }

    /// Quantizes `values` to integers between 0 and `largest`.
    #[inline(always)]
    fn integers<S: Simd>(self, s: S, values: S::F32) -> S::F32 {
        let shifted = s.add(s.round(s.mul(values, s.splat(self.inverse))), s.splat(self.zero));
        s.min(s.max(shifted, s.splat(0.0)), s.splat(self.largest))
    }
}

/// Quantizes the group's values to bytes; the bytes after them are set to 0.
#[inline(always)]
fn byte_group<S: Simd>(s: S, values: &[f32], range: Range, bytes: &mut [u8]) {
    let (bytes, padding) = bytes.split_at_mut(values.len());
    // `fill` calls a function even for an empty slice.
    if !padding.is_empty() {
        padding.fill(0);
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

/// Like [`byte_group`] with 16 bits: the high bytes of all values, followed by the low bytes.
#[inline(always)]
fn outlier_group<S: Simd>(s: S, values: &[f32], range: Range, bytes: &mut [u8]) {
    let (high, low) = bytes.split_at_mut(bytes.len() / 2);
    high[values.len()..].fill(0);
    low[values.len()..].fill(0);
    let mut at = 0;
    while at < values.len() {
        let count = (values.len() - at).min(S::LANES);
        let integers = range.integers(s, s.load_first(&values[at..]));
        // Rounds down. The division by 256 is exact, and what is subtracted is 1/2 less half of 1/256, so rounding to
        // nearest never gives the next integer.
        let highs = s.round(s.sub(s.mul(integers, s.splat(1.0 / 256.0)), s.splat(0.5 - 1.0 / 512.0)));
        let lows = s.sub(integers, s.mul(highs, s.splat(256.0)));
        s.store_bytes_first(&mut high[at..at + count], highs);
        s.store_bytes_first(&mut low[at..at + count], lows);
        at += count;
    }
}
