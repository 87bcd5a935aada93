//! Attention within each text, without padding.

mod head;
mod plan;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use super::disjoint::Disjoint;
use super::parallel::run_each_once;
use super::{Kernels, Offsets, Parallel, Serial};

/// The input of [`Kernels::attention`].
#[derive(Debug, Clone, Copy)]
pub struct AttentionInput<'a> {
    /// float32 `[tokens, 3, heads, head_size]`: queries, keys and values.
    pub qkv: &'a [f32],
    /// The number of attention heads.
    pub heads: usize,
    /// Added to the scores, for architectures that have such a bias.
    pub bias: Option<DistanceBias<'a>>,
}

/// A bias for each head and distance, float32 `[heads, 2 * farthest + 1]`. A key `d` tokens after its query uses column
/// `farthest + d`; `d` is negative for earlier keys. No text may have more than `farthest + 1` tokens.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "described above")]
pub struct DistanceBias<'a> {
    pub table: &'a [f32],
    pub farthest: usize,
}

thread_local! {
    /// One head's keys, values and scores. The memory is reused because fresh pages would cost more than the arithmetic
    /// of a short text. It grows to fit the thread's longest text.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Kernels {
    /// Computes `softmax(q k^T / sqrt(head_size) + bias) v` for every text and head. `output` is float32
    /// `[tokens, heads, head_size]`.
    ///
    /// # Panics
    /// If a slice does not have its documented shape, or a text is too long for the bias.
    pub fn attention(self, parallel: &dyn Parallel, input: &AttentionInput<'_>, offsets: &Offsets, output: &mut [f32]) {
        let tokens = offsets.tokens();
        let size = output.len() / tokens / input.heads;
        assert_eq!(output.len(), tokens * input.heads * size, "the output must be [tokens, heads, head_size]");
        assert_eq!(input.qkv.len(), 3 * output.len(), "the input must be [tokens, 3, heads, head_size]");
        if let Some(bias) = input.bias {
            assert_eq!(
                bias.table.len(),
                input.heads * (2 * bias.farthest + 1),
                "the bias must be [heads, 2 * farthest + 1]"
            );
            let longest = offsets.texts().map(|text| text.len()).max().unwrap_or(0);
            assert!(longest <= bias.farthest + 1, "a text of {longest} tokens is too long for the bias");
        }
        let tasks = plan::tasks(offsets, input.heads, size, parallel.threads());
        let outputs = Disjoint::new(output);
        let run = |index: usize| {
            let mut scratch = SCRATCH.take();
            let work = head::Work { input, size, task: &tasks[index], outputs: &outputs };
            self.dispatch(head::Attend { work, scratch: &mut scratch });
            SCRATCH.set(scratch);
        };
        let parallel = if plan::worth_sharing(&tasks, size) { parallel } else { &Serial };
        run_each_once(parallel, tasks.len(), &run);
    }
}
