//! One tile of a product: a few rows times a few columns of a panel.
#![allow(unsafe_code)]

use std::ops::Range;

use super::products::{Ahead, ByteProducts, Operands};
use super::{CACHE_LINE, QuantizedRows, Work};
use crate::disjoint::Disjoint;
use crate::layout::{PANEL, QUAD};
use crate::simd::Simd;

/// Vectors of columns per tile.
pub(crate) const VECTORS: usize = 2;

/// Cache lines with the scales of a panel for one group.
const SCALE_LINES: usize = 2 * PANEL * size_of::<f32>() / CACHE_LINE;

/// One panel of a linear layer's weights; for the shapes see [`crate::PackedShapes`].
#[derive(Clone, Copy)]
struct Panel<'a> {
    index: usize,
    /// `[row_bytes / 4, 32, 4]`.
    weights: &'a [i8],
    /// `[groups, 2, 32]`.
    scales: &'a [f32],
    /// `[32]`.
    bias: &'a [f32],
    /// Prefetched while this panel is multiplied.
    ahead: Ahead<'a>,
    /// The scales of the next panel, to prefetch them as well; empty if that is not necessary.
    scales_ahead: &'a [f32],
}

/// Multiplies `rows` by the panel `panel` and writes the product to the output. Prefetches the panel `next` at the same
/// time.
///
/// # Safety
/// No other thread may write the same rows of the same panel at the same time.
#[inline(always)]
pub(super) unsafe fn panel<P: ByteProducts>(
    products: P,
    work: &Work<'_>,
    panel: usize,
    next: Option<usize>,
    rows: Range<usize>,
    output: &Disjoint<'_, f32>,
) {
    let row_bytes = work.input.row_bytes;
    let groups = work.groups.len();
    let weights = work.weights;
    let panel = Panel {
        index: panel,
        weights: &weights.weights[panel * PANEL * row_bytes..][..PANEL * row_bytes],
        scales: &weights.scales[panel * PANEL * 2 * groups..][..PANEL * 2 * groups],
        bias: &weights.bias[panel * PANEL..][..PANEL],
        ahead: Ahead { bytes: &[], step: 0 },
        scales_ahead: &[],
    };
    let next_scales = next.map_or(&[][..], |next| &weights.scales[next * PANEL * 2 * groups..][..PANEL * 2 * groups]);
    let next = next.map_or(&[][..], |next| &weights.weights[next * PANEL * row_bytes..][..PANEL * row_bytes]);
    let columns = (weights.outputs - panel.index * PANEL).min(PANEL);
    // All tiles have nearly the same height (7 rows become 4 and 3): a tile with few rows wastes the loads of its
    // weights.
    let tiles = rows.len().div_ceil(P::MAX_ROWS);
    for tile in 0..tiles {
        let first = rows.start + rows.len() * tile / tiles;
        let end = rows.start + rows.len() * (tile + 1) / tiles;
        // Prefetching the next panel is spread over the first two tiles of this one.
        let ahead = match (tiles, tile) {
            _ if next.is_empty() => panel.ahead,
            (1, _) => Ahead { bytes: next, step: QUAD * PANEL },
            (_, 0 | 1) => Ahead { bytes: &next[tile * next.len() / 2..], step: QUAD * PANEL / 2 },
            _ => panel.ahead,
        };
        for column in (0..columns).step_by(VECTORS * P::Floats::LANES) {
            let scales_ahead = if tile == 0 && column == 0 { next_scales } else { &[] };
            let panel = Panel { ahead, scales_ahead, ..panel };
            // SAFETY: by the caller's guarantee; no other tile has these rows and columns.
            unsafe { any_height(products, work, &panel, first..end, column, output) };
        }
    }
}

/// # Safety
/// The same as for [`panel`].
#[inline(always)]
unsafe fn any_height<P: ByteProducts>(
    products: P,
    work: &Work<'_>,
    panel: &Panel<'_>,
    rows: Range<usize>,
    column: usize,
    output: &Disjoint<'_, f32>,
) {
    // SAFETY: by the caller's guarantee.
    unsafe {
        match rows.len() {
            1 => tile::<P, 1>(products, work, panel, rows.start, column, output),
            2 => tile::<P, 2>(products, work, panel, rows.start, column, output),
            3 => tile::<P, 3>(products, work, panel, rows.start, column, output),
            4 if P::MAX_ROWS >= 4 => tile::<P, 4>(products, work, panel, rows.start, column, output),
            5 if P::MAX_ROWS >= 5 => tile::<P, 5>(products, work, panel, rows.start, column, output),
            6 if P::MAX_ROWS >= 6 => tile::<P, 6>(products, work, panel, rows.start, column, output),
            rows => unreachable!("no tile has {rows} rows"),
        }
    }
}

/// `bias + sum over groups of (scale * column_scale * product + shift * zero_point_term)`, where `shift` is minus the
/// scale times the zero point of the row.
///
/// # Safety
/// The same as for [`panel`].
#[inline(always)]
unsafe fn tile<P: ByteProducts, const ROWS: usize>(
    products: P,
    work: &Work<'_>,
    panel: &Panel<'_>,
    first: usize,
    column: usize,
    output: &Disjoint<'_, f32>,
) {
    let s = products.floats();
    let QuantizedRows { bytes, factors, row_bytes, .. } = work.input;
    let stride = P::WIDTH * row_bytes;
    let row_factors = 2 * work.groups.len();
    let bytes = &bytes[first * stride..][..ROWS * stride];
    let factors = &factors[first * row_factors..][..ROWS * row_factors];
    let outputs = work.weights.outputs;
    let width = (outputs - panel.index * PANEL - column).min(VECTORS * P::Floats::LANES);
    let range = |row: usize| {
        let start = (first + row) * outputs + panel.index * PANEL + column;
        start..start + width
    };
    for row in 0..ROWS {
        // A store that waits for its cache line delays the stores of the next tile.
        // SAFETY: by the caller's guarantee.
        s.prepare_store(unsafe { output.slice(range(row)) });
    }
    let mut totals = [load(s, &panel.bias[column..]); ROWS];
    for (index, group) in work.groups.iter().enumerate() {
        let start = group.bytes.start;
        let quads = group.bytes.len() / QUAD;
        let high_quads = if group.split { quads / 2 } else { 0 };
        let weights = &panel.weights[start * PANEL + column * QUAD..];
        let ahead = Ahead { bytes: &panel.ahead.bytes[start / QUAD * panel.ahead.step..], ..panel.ahead };
        let bytes = &bytes[P::WIDTH * start..];
        let operands = Operands { bytes, stride, weights, quads, high_quads, ahead };
        let scales_ahead = panel.scales_ahead.get(index * 2 * PANEL..).unwrap_or_default();
        for line in scales_ahead.chunks(CACHE_LINE / size_of::<f32>()).take(SCALE_LINES) {
            s.prefetch(line.as_ptr());
        }
        let products = products.byte_products::<ROWS>(operands);
        let scales = &panel.scales[index * 2 * PANEL..][..2 * PANEL];
        let column_scales = load(s, &scales[column..]);
        let zero_point_terms = load(s, &scales[PANEL + column..]);
        for row in 0..ROWS {
            let factors = &factors[row * row_factors + 2 * index..][..2];
            let scale = s.splat(factors[0]);
            let shift = s.splat(factors[1]);
            for vector in 0..VECTORS {
                let scaled = s.mul(column_scales[vector], products[row][vector]);
                let total = s.mul_add(scale, scaled, totals[row][vector]);
                totals[row][vector] = s.mul_add(shift, zero_point_terms[vector], total);
            }
        }
    }
    // Iterate by value: an array that a loop indexes is kept in memory, but these sums should have stayed in registers
    // up to this point.
    for (row, mut total) in totals.into_iter().enumerate() {
        if let Some(activation) = work.activation {
            // Not `map`: a closure lacks the instructions that this function may use.
            total = [activation.apply(s, total[0]), activation.apply(s, total[1])];
        }
        // SAFETY: by the caller's guarantee.
        store(s, unsafe { output.slice(range(row)) }, total);
    }
}

#[inline(always)]
fn load<S: Simd>(s: S, from: &[f32]) -> [S::F32; VECTORS] {
    [s.load(from), s.load(&from[S::LANES..])]
}

#[inline(always)]
fn store<S: Simd>(s: S, to: &mut [f32], [first, second]: [S::F32; VECTORS]) {
    if to.len() == VECTORS * S::LANES {
        s.store(to, first);
        s.store(&mut to[S::LANES..], second);
    } else if to.len() > S::LANES {
        s.store(to, first);
        s.store_first(&mut to[S::LANES..], second);
    } else {
        s.store_first(to, first);
    }
}
