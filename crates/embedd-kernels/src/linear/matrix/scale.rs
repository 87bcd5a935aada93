//! Scales the sums of a group and adds them to the totals.

use super::{FromSums, MAX_VECTORS, SIDE, Sums, Totals};
use crate::layout::PANEL;
use crate::simd::Simd;

/// A row of sums or totals.
pub(super) type Row<S> = [<S as Simd>::F32; MAX_VECTORS];

#[inline(always)]
pub(super) fn load<S: Simd>(s: S, from: &[f32]) -> Row<S> {
    let mut row = [s.splat(0.0); MAX_VECTORS];
    for (vector, from) in row.iter_mut().zip(from.chunks_exact(S::LANES)) {
        *vector = s.load(from);
    }
    row
}

#[allow(clippy::needless_range_loop, reason = "parallel arrays; iterators would need closures around vectors")]
#[inline(always)]
pub(super) fn load_totals<S: Simd>(s: S, from: &Totals) -> [Row<S>; SIDE] {
    let mut totals = [[s.splat(0.0); MAX_VECTORS]; SIDE];
    for row in 0..SIDE {
        for vector in 0..SIDE / S::LANES {
            totals[row][vector] = s.load(&from[row * SIDE + vector * S::LANES..]);
        }
    }
    totals
}

#[allow(clippy::needless_range_loop, reason = "parallel arrays; iterators would need closures around vectors")]
#[inline(always)]
pub(super) fn store_totals<S: Simd>(s: S, to: &mut Totals, totals: &[Row<S>; SIDE]) {
    for row in 0..SIDE {
        for vector in 0..SIDE / S::LANES {
            s.store(&mut to[row * SIDE + vector * S::LANES..], totals[row][vector]);
        }
    }
}

/// Adds `scale * column_scale * sum + shift * zero_point_term` to each total. `scales` begins with the scales of the
/// columns; the zero-point terms begin 32 later. `factors` begins with the scale and the shift of the first row; those of
/// the next row begin `row_factors` later.
#[allow(clippy::needless_range_loop, reason = "parallel arrays; iterators would need closures around vectors")]
#[inline(always)]
pub(super) fn add_scaled<S: FromSums, const SPLIT: bool>(
    s: S,
    totals: &mut [Row<S>; SIDE],
    high: &Sums,
    low: &Sums,
    scales: &[f32],
    factors: &[f32],
    row_factors: usize,
) {
    let column_scales = load(s, &scales[..SIDE]);
    let zero_point_terms = load(s, &scales[PANEL..][..SIDE]);
    assert!(factors.len() >= (SIDE - 1) * row_factors + 2);
    let mut factors = factors.as_ptr();
    let [high, low] = [high.0.as_ptr(), low.0.as_ptr()];
    for row in 0..SIDE {
        // SAFETY: all reads are within the slice, as just checked; the last row is not followed by others.
        let [scale, shift] = unsafe { [s.splat(*factors), s.splat(*factors.add(1))] };
        factors = factors.wrapping_add(row_factors);
        for vector in 0..SIDE / S::LANES {
            let at = row * SIDE + vector * S::LANES;
            // SAFETY: a vector at a multiple of its length below 256 is within the sums.
            let sums =
                unsafe { if SPLIT { s.load_split_sums(high.add(at), low.add(at)) } else { s.load_sums(high.add(at)) } };
            let scaled = s.mul(column_scales[vector], sums);
            let total = s.mul_add(scale, scaled, totals[row][vector]);
            totals[row][vector] = s.mul_add(shift, zero_point_terms[vector], total);
        }
    }
}
