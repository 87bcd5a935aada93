//! Products of queries and keys with embeddings of the distance between them.
//!
//! A task's queries and keys have a contiguous range of distances. Both products are computed for the whole range, and
//! each score picks its two terms by its distance.

use super::DisentangledTables;
use super::work::Work;
use crate::multiply::{Panels, Rows, TILE_ROWS, multiply, pack_transposed, padded};
use crate::simd::Simd;

/// The distances from a task's queries to the keys of its text.
#[derive(Clone, Copy)]
pub(super) struct Span {
    /// Minus the smallest distance.
    back: usize,
    count: usize,
}

/// Memory for the products of one head.
pub(super) struct Products<'s> {
    /// `[distances, size]`: embeddings, in the order of the distances.
    pub(super) embeddings: &'s mut [f32],
    /// The packed embeddings to multiply with queries.
    pub(super) key_panels: &'s mut [f32],
    /// The packed embeddings to multiply with keys.
    pub(super) query_panels: &'s mut [f32],
    /// `[TILE_ROWS, padded distances]`: products of queries.
    pub(super) of_queries: &'s mut [f32],
    /// `[keys, padded distances]`: products of keys.
    pub(super) of_keys: &'s mut [f32],
}

impl Span {
    #[inline(always)]
    pub(super) fn of(work: &Work<'_>) -> Self {
        let task = work.task;
        let back = task.queries.end - 1 - task.text.start;
        Self { back, count: back + task.text.end - task.queries.start }
    }

    /// The lengths of the slices of [`Products`].
    #[inline(always)]
    pub(super) fn lengths<S: Simd>(self, size: usize, keys: usize) -> [usize; 5] {
        let row = padded::<S>(self.count);
        [self.count * size, size * row, size * row, TILE_ROWS * row, keys.next_multiple_of(TILE_ROWS) * row]
    }
}

impl Products<'_> {
    /// Packs the embeddings for `head`, and multiplies them with all keys.
    #[inline(always)]
    pub(super) fn begin<S: Simd>(
        &mut self,
        s: S,
        work: &Work<'_>,
        tables: &DisentangledTables<'_>,
        span: Span,
        head: usize,
    ) {
        let size = work.input.heads.size;
        if !tables.keys.is_empty() {
            collect(work, tables.keys, tables.rows, span, head, self.embeddings);
            pack_transposed(s, rows(self.embeddings, size), self.key_panels);
        }
        if !tables.queries.is_empty() {
            collect(work, tables.queries, tables.rows, span, head, self.embeddings);
            pack_transposed(s, rows(self.embeddings, size), self.query_panels);
            let keys = work.keys(head);
            let row = padded::<S>(span.count);
            for first in (0..keys.count).step_by(TILE_ROWS) {
                let tile = keys.part(first, TILE_ROWS.min(keys.count - first));
                let panels = Panels::whole(self.query_panels, size, span.count);
                multiply(s, tile, panels, &mut self.of_keys[first * row..]);
            }
        }
    }

    /// Adds both products to the `scores` of a few queries, the first of which is at `position` in its text. Each row of
    /// scores has `stride` floats, the first `keys` of which are scores.
    #[inline(always)]
    pub(super) fn add<S: Simd>(
        &mut self,
        s: S,
        tables: &DisentangledTables<'_>,
        span: Span,
        queries: Rows<'_>,
        position: usize,
        (scores, keys): (&mut [f32], usize),
    ) {
        let row = padded::<S>(span.count);
        if !tables.keys.is_empty() {
            multiply(s, queries, Panels::whole(self.key_panels, queries.columns, span.count), self.of_queries);
        }
        for (index, scores) in scores.chunks_exact_mut(padded::<S>(keys)).take(queries.count).enumerate() {
            // The distance of the first key is minus the query's position.
            let first = span.back - (position + index);
            let scores = &mut scores[..keys];
            if !tables.keys.is_empty() {
                let products = &self.of_queries[index * row + first..][..keys];
                for (to, from) in scores.chunks_mut(S::LANES).zip(products.chunks(S::LANES)) {
                    s.store_part(to, s.add(s.load_part(to), s.load_part(from)));
                }
            }
            if !tables.queries.is_empty() {
                for (key, score) in scores.iter_mut().enumerate() {
                    *score += self.of_keys[key * row + first + key];
                }
            }
        }
    }
}

/// Copies the rows of a head's table in the order of the distances.
#[inline(always)]
fn collect(work: &Work<'_>, table: &[f32], rows: &[u32], span: Span, head: usize, embeddings: &mut [f32]) {
    let heads = work.input.heads;
    let rows = &rows[rows.len() / 2 - span.back..][..span.count];
    for (to, &row) in embeddings.chunks_exact_mut(heads.size).zip(rows) {
        to.copy_from_slice(&table[(row as usize * heads.query + head) * heads.size..][..heads.size]);
    }
}

#[inline(always)]
fn rows(values: &[f32], columns: usize) -> Rows<'_> {
    Rows { values, stride: columns, count: values.len() / columns, columns }
}
