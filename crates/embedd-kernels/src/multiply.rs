//! float32 matrix products for attention, whose factors are too small and too short-lived for a library's packing.
//!
//! The right-hand matrix lies in panels: [`panel_vectors`] vectors of columns side by side for every row, panel after
//! panel; the last panel may have fewer vectors. Every element of a product is summed in the order of the rows of the
//! right-hand matrix, whatever tile it falls into.

use super::simd::Simd;

/// Rows of the left-hand matrix that are multiplied at once.
pub(super) const TILE_ROWS: usize = 6;

/// Vectors of a panel: with 6 rows they fill three quarters of the registers with sums.
pub(super) const fn panel_vectors<S: Simd>() -> usize {
    S::REGISTERS / 8
}

/// `columns`, up to whole vectors.
pub(super) const fn padded<S: Simd>(columns: usize) -> usize {
    columns.next_multiple_of(S::LANES)
}

/// Where the panel of a column begins and how many floats wide it is, for a matrix of `rows` by `columns`.
#[inline(always)]
fn panel_of<S: Simd>(column: usize, rows: usize, columns: usize) -> (usize, usize) {
    let width = panel_vectors::<S>() * S::LANES;
    let first = column / width * width;
    (first * rows, width.min(padded::<S>(columns) - first))
}

/// The rows of a matrix, of which each begins `stride` floats behind the one before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) count: usize,
    pub(super) columns: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.stride..][..self.columns]
    }

    /// `count` rows from `first` on.
    #[inline(always)]
    pub(super) fn part(&self, first: usize, count: usize) -> Self {
        Self { values: &self.values[first * self.stride..], count, ..*self }
    }
}

/// Packs `matrix` as it is; columns beyond the last are 0. `panels` has `rows padded(columns)` floats.
#[inline(always)]
pub(super) fn pack<S: Simd>(s: S, matrix: Rows<'_>, panels: &mut [f32]) {
    for column in (0..matrix.columns).step_by(S::LANES) {
        let (start, width) = panel_of::<S>(column, matrix.count, matrix.columns);
        let within = column % (panel_vectors::<S>() * S::LANES);
        let panel = &mut panels[start..][..matrix.count * width];
        for (row, to) in panel.chunks_exact_mut(width).enumerate() {
            s.store(&mut to[within..], s.load_part(&matrix.row(row)[column..]));
        }
    }
}

/// Packs `matrix` transposed: its rows become columns; those beyond the last are 0. `panels` has
/// `columns padded(rows)` floats, counted in `matrix`.
#[inline(always)]
pub(super) fn pack_transposed<S: Simd>(s: S, matrix: Rows<'_>, panels: &mut [f32]) {
    const SQUARE: usize = 8;
    let depth = matrix.columns;
    let zeros = [0.0; SQUARE];
    for first in (0..padded::<S>(matrix.count)).step_by(SQUARE) {
        let (start, width) = panel_of::<S>(first, depth, matrix.count);
        let within = first % (panel_vectors::<S>() * S::LANES);
        let panel = &mut panels[start..][..depth * width];
        // A square must not reach beyond its panel, nor beyond the channels.
        let whole = if within + SQUARE <= width { depth / SQUARE * SQUARE } else { 0 };
        for channel in (0..whole).step_by(SQUARE) {
            let mut from = [&zeros[..]; SQUARE];
            for (index, from) in from.iter_mut().enumerate() {
                if first + index < matrix.count {
                    *from = &matrix.row(first + index)[channel..];
                }
            }
            s.transpose_8x8(from, &mut panel[channel * width + within..], width);
        }
        for column in first..first + SQUARE.min(width - within) {
            for channel in whole..depth {
                let value = if column < matrix.count { matrix.row(column)[channel] } else { 0.0 };
                panel[channel * width + within + column - first] = value;
            }
        }
    }
}

/// `left` times the matrix of `columns` columns packed in `panels`: up to [`TILE_ROWS`] rows, to rows of
/// `padded(columns)` floats.
#[inline(always)]
pub(super) fn multiply<S: Simd>(s: S, left: Rows<'_>, panels: &[f32], columns: usize, out: &mut [f32]) {
    match left.count {
        1 => multiply_rows::<S, 1>(s, left, panels, columns, out),
        2 => multiply_rows::<S, 2>(s, left, panels, columns, out),
        3 => multiply_rows::<S, 3>(s, left, panels, columns, out),
        4 => multiply_rows::<S, 4>(s, left, panels, columns, out),
        5 => multiply_rows::<S, 5>(s, left, panels, columns, out),
        _ => multiply_rows::<S, TILE_ROWS>(s, left, panels, columns, out),
    }
}

#[inline(always)]
fn multiply_rows<S: Simd, const ROWS: usize>(s: S, left: Rows<'_>, panels: &[f32], columns: usize, out: &mut [f32]) {
    let mut rows = [&[][..]; ROWS];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = left.row(index);
    }
    let stride = padded::<S>(columns);
    let full = panel_vectors::<S>() * S::LANES;
    for column in (0..stride).step_by(full) {
        let width = full.min(stride - column);
        let panel = &panels[column * left.columns..][..width * left.columns];
        let out = &mut out[column..];
        match width / S::LANES {
            4 if S::REGISTERS >= 32 => tile::<S, ROWS, 4>(s, rows, panel, stride, out),
            3 if S::REGISTERS >= 32 => tile::<S, ROWS, 3>(s, rows, panel, stride, out),
            2 => tile::<S, ROWS, 2>(s, rows, panel, stride, out),
            _ => tile::<S, ROWS, 1>(s, rows, panel, stride, out),
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    rows: [&[f32]; ROWS],
    panel: &[f32],
    stride: usize,
    out: &mut [f32],
) {
    let width = VECTORS * S::LANES;
    let depth = panel.len() / width;
    let mut left = [&[][..]; ROWS];
    for row in 0..ROWS {
        left[row] = &rows[row][..depth];
    }
    let mut sums = [[s.splat(0.0); VECTORS]; ROWS];
    for step in 0..depth {
        let right = &panel[step * width..][..width];
        let mut vectors = [s.splat(0.0); VECTORS];
        for vector in 0..VECTORS {
            vectors[vector] = s.load(&right[vector * S::LANES..]);
        }
        for row in 0..ROWS {
            let value = s.splat(left[row][step]);
            for vector in 0..VECTORS {
                sums[row][vector] = s.mul_add(value, vectors[vector], sums[row][vector]);
            }
        }
    }
    for row in 0..ROWS {
        for vector in 0..VECTORS {
            s.store(&mut out[row * stride + vector * S::LANES..], sums[row][vector]);
        }
    }
}
