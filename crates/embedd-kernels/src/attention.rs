//! Attention within each text; nothing is padded.

mod head;
mod plan;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use super::disjoint::Disjoint;
use super::parallel::run_each_once;
use super::{Kernels, Offsets, Parallel, Serial};

/// What attention takes.
#[derive(Debug, Clone, Copy)]
pub struct AttentionInput<'a> {
    /// float32 `[tokens, 3, heads, head_size]`: queries, keys and values.
    pub qkv: &'a [f32],
    /// Attention heads.
    pub heads: usize,
    /// Added to the scores, where the architecture has it.
    pub bias: Option<DistanceBias<'a>>,
}

/// A bias for each head and distance: float32 `[heads, 2 farthest + 1]`; a key that is `d` behind its query has column
/// `farthest + d`. No text may be longer than `farthest + 1` tokens.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "told above")]
pub struct DistanceBias<'a> {
    pub table: &'a [f32],
    pub farthest: usize,
}

thread_local! {
    /// One head's keys, values and scores: kept, because fresh pages would cost more than a short text's arithmetic. It
    /// grows to what the longest text of the thread needs.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Kernels {
    /// `softmax(q k^T / sqrt(head_size) + bias) v` for every text and head: to `output`, float32
    /// `[tokens, heads, head_size]`.
    ///
    /// # Panics
    /// Where the slices do not have these shapes, or a text is longer than the bias reaches.
    pub fn attention(self, parallel: &dyn Parallel, input: &AttentionInput<'_>, offsets: &Offsets, output: &mut [f32]) {
        let tokens = offsets.tokens();
        let size = output.len() / tokens / input.heads;
        assert_eq!(output.len(), tokens * input.heads * size, "the output is [tokens, heads, head_size]");
        assert_eq!(input.qkv.len(), 3 * output.len(), "the input is [tokens, 3, heads, head_size]");
        if let Some(bias) = input.bias {
            assert_eq!(bias.table.len(), input.heads * (2 * bias.farthest + 1), "the bias is [heads, 2 farthest + 1]");
            let longest = offsets.texts().map(|text| text.len()).max().unwrap_or(0);
            assert!(longest <= bias.farthest + 1, "a text of {longest} tokens is longer than the bias reaches");
        }
        let tasks = plan::tasks(offsets, input.heads, size, parallel.threads());
        let outputs = Disjoint::new(output);
        let run = |index: usize| {
            let mut scratch = SCRATCH.take();
            let work = head::Work { input, size, task: &tasks[index], outputs: &outputs };
            self.vectorize(head::Attend { work, scratch: &mut scratch });
            SCRATCH.set(scratch);
        };
        let parallel = if plan::worth_sharing(&tasks, size) { parallel } else { &Serial };
        run_each_once(parallel, tasks.len(), &run);
    }
}
