//! The input of an attention task, by head and query.

use std::ops::Range;

use super::plan::Task;
use super::{AttentionInput, Distances};
use crate::disjoint::Disjoint;
use crate::multiply::Rows;

/// A task with its input and output.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) input: &'a AttentionInput<'a>,
    pub(super) task: &'a Task,
    /// float32 `[tokens, query heads, head_size]`.
    pub(super) outputs: &'a Disjoint<'a, f32>,
}

impl<'a> Work<'a> {
    /// The text's queries for one query head.
    #[inline(always)]
    pub(super) fn queries(&self, head: usize) -> Rows<'a> {
        self.part(head)
    }

    /// The text's keys for one query head.
    #[inline(always)]
    pub(super) fn keys(&self, head: usize) -> Rows<'a> {
        self.part(self.input.heads.query + self.key_head(head))
    }

    /// The text's values for one query head.
    #[inline(always)]
    pub(super) fn values(&self, head: usize) -> Rows<'a> {
        let heads = self.input.heads;
        self.part(heads.query + heads.key + self.key_head(head))
    }

    /// The key head that a query head uses.
    #[inline(always)]
    pub(super) fn key_head(&self, head: usize) -> usize {
        head / (self.input.heads.query / self.input.heads.key)
    }

    /// The part at `head` of the rows of queries, keys and values.
    #[inline(always)]
    fn part(&self, head: usize) -> Rows<'a> {
        let heads = self.input.heads;
        let start = self.task.text.start * heads.row() + head * heads.size;
        let values = &self.input.qkv[start..];
        Rows { values, stride: heads.row(), count: self.task.text.len(), columns: heads.size }
    }

    /// The factor for the dot products. It includes log2(e), because the softmax uses powers of 2.
    #[inline(always)]
    pub(super) fn scale(&self) -> f32 {
        std::f32::consts::LOG2_E / self.input.squared_divisor.sqrt()
    }

    /// The keys within reach of some of `count` queries, the first of which is at `position` in its text. The range
    /// begins and ends with a multiple of `unit`, or with the text. The scores of all other keys would be hidden.
    #[inline(always)]
    pub(super) fn within_reach(&self, position: usize, count: usize, unit: usize) -> Range<usize> {
        let keys = self.task.text.len();
        let reach = self.input.reach;
        let start = reach.keys(position, keys).start / unit * unit;
        start..reach.keys(position + count - 1, keys).end.next_multiple_of(unit).min(keys)
    }

    /// The bias for the scores of a query: one float for each of `keys`, or empty if there is no bias.
    #[inline(always)]
    pub(super) fn bias(&self, head: usize, query: usize, keys: Range<usize>) -> &'a [f32] {
        let Distances::Bias { table, farthest } = self.input.distances else { return &[] };
        let start = head * (2 * farthest + 1) + farthest - (query - self.task.text.start);
        &table[start..][keys]
    }
}
