//! float32 matrix products for attention. The factors are too small and too short-lived to justify the packing that
//! matrix libraries do.
//!
//! The right-hand matrix is packed into panels. A panel holds [`panel_vectors`] adjacent vectors of columns for every
//! row; the last panel may hold fewer. Each element of a product is summed in the order of the right-hand
//! matrix's rows, regardless of which tile computes it.

use super::simd::Simd;

/// Rows of the left-hand matrix per tile.
pub(super) const TILE_ROWS: usize = 6;

/// Vectors per panel. With 6 rows per tile, the sums occupy three quarters of the registers.
pub(super) const fn panel_vectors<S: Simd>() -> usize {
    S::REGISTERS / 8
}

/// `columns`, rounded up to whole vectors.
pub(super) const fn padded<S: Simd>(columns: usize) -> usize {
    columns.next_multiple_of(S::LANES)
}

/// The start of a column's panel and the panel's width in floats, for a matrix of `rows` by `columns`.
#[inline(always)]
fn panel_of<S: Simd>(column: usize, rows: usize, columns: usize) -> (usize, usize) {
    let width = panel_width::<S>();
    let first = column / width * width;
    (first * rows, width.min(padded::<S>(columns) - first))
}

/// A matrix whose consecutive rows begin `stride` floats apart.
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

    /// `count` rows, starting at `first`.
    #[inline(always)]
    pub(super) fn part(&self, first: usize, count: usize) -> Self {
        Self { values: &self.values[first * self.stride..], count, ..*self }
    }
}

/// Consecutive rows of a packed matrix.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    pub(super) values: &'a [f32],
    /// Rows of the whole matrix.
    pub(super) rows: usize,
    /// The first of the rows to multiply.
    pub(super) first: usize,
    pub(super) columns: usize,
}

impl<'a> Panels<'a> {
    /// All rows of a matrix.
    #[inline(always)]
    pub(super) fn whole(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values, rows, first: 0, columns }
    }

    /// Rows from `first` on.
    #[inline(always)]
    pub(super) fn rows_from(self, first: usize) -> Self {
        Self { first, ..self }
    }

    /// Columns from `first` up to `end`. Both are multiples of [`panel_width`], or `end` is the end of the matrix.
    #[inline(always)]
    pub(super) fn columns(self, first: usize, end: usize) -> Self {
        Self { values: &self.values[first * self.rows..], columns: end - first, ..self }
    }
}

/// Floats per row of a panel.
pub(super) const fn panel_width<S: Simd>() -> usize {
    panel_vectors::<S>() * S::LANES
}

/// Packs `matrix`; padding columns are 0. `panels` has `rows * padded(columns)` floats.
#[inline(always)]
pub(super) fn pack<S: Simd>(s: S, matrix: Rows<'_>, panels: &mut [f32]) {
    for column in (0..matrix.columns).step_by(S::LANES) {
        let (start, width) = panel_of::<S>(column, matrix.count, matrix.columns);
        let within = column % panel_width::<S>();
        let panel = &mut panels[start..][..matrix.count * width];
        for (row, to) in panel.chunks_exact_mut(width).enumerate() {
            s.store(&mut to[within..], s.load_part(&matrix.row(row)[column..]));
        }
    }
}

/// Packs the transpose of `matrix`: its rows become columns; padding columns are 0. `panels` has
/// `columns * padded(rows)` floats, where `rows` and `columns` are those of `matrix`.
#[inline(always)]
pub(super) fn pack_transposed<S: Simd>(s: S, matrix: Rows<'_>, panels: &mut [f32]) {
    const SQUARE: usize = 8;
    let depth = matrix.columns;
    let zeros = [0.0; SQUARE];
    for first in (0..padded::<S>(matrix.count)).step_by(SQUARE) {
        let (start, width) = panel_of::<S>(first, depth, matrix.count);
        let within = first % panel_width::<S>();
        let panel = &mut panels[start..][..depth * width];
        // A square must not extend past its panel or past the last channel.
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

/// Multiplies `left`, of at most [`TILE_ROWS`] rows, by the packed rows from `panels.first` on, one for each
/// column of `left`. Each row of `out` has `padded(panels.columns)` floats.
#[inline(always)]
pub(super) fn multiply<S: Simd>(s: S, left: Rows<'_>, panels: Panels<'_>, out: &mut [f32]) {
    match left.count {
        1 => multiply_rows::<S, 1>(s, left, panels, out),
        2 => multiply_rows::<S, 2>(s, left, panels, out),
        3 => multiply_rows::<S, 3>(s, left, panels, out),
        4 => multiply_rows::<S, 4>(s, left, panels, out),
        5 => multiply_rows::<S, 5>(s, left, panels, out),
        _ => multiply_rows::<S, TILE_ROWS>(s, left, panels, out),
    }
}

#[inline(always)]
fn multiply_rows<S: Simd, const ROWS: usize>(s: S, left: Rows<'_>, panels: Panels<'_>, out: &mut [f32]) {
    let mut rows = [&[][..]; ROWS];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = left.row(index);
    }
    let stride = padded::<S>(panels.columns);
    let full = panel_width::<S>();
    for column in (0..stride).step_by(full) {
        let width = full.min(stride - column);
        let start = column * panels.rows + panels.first * width;
        let panel = &panels.values[start..][..width * left.columns];
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
