//! Attention within each text, without padding.

mod disentangled;
mod head;
mod plan;
#[cfg(test)]
mod tests;
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other architecture has tiles"))]
mod tiles;
mod work;

use std::cell::RefCell;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::disjoint::Disjoint;
use super::parallel::run_each_once;
use super::tiles::{HasTiles, Tile};
use super::{Kernels, Offsets, Parallel, Serial};

/// The input of [`Kernels::attention`].
#[derive(Debug, Clone, Copy)]
pub struct AttentionInput<'a> {
    /// float32 `[tokens, query heads + 2 * key heads, head_size]`: queries, keys and values.
    pub qkv: &'a [f32],
    /// The heads of `qkv`.
    pub heads: Heads,
    /// The square of the number by which the scores are divided: `head_size` in most architectures.
    pub squared_divisor: f32,
    /// The keys that a query attends to.
    pub reach: Reach,
    /// How the scores depend on the distance between two tokens.
    pub distances: Distances<'a>,
}

/// The heads of a token's queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heads {
    /// The number of query heads, a multiple of `key`.
    pub query: usize,
    /// The number of key heads, and of value heads. Neighboring query heads share one.
    pub key: usize,
    /// Channels of a head.
    pub size: usize,
}

/// How far from its own position a query attends, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// Toward the start of the text; `None`: to its first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<usize>,
    /// Toward the end of the text; `None`: to its last token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<usize>,
}

/// How attention scores depend on the distance `d` from a query to a key; `d` is negative for earlier keys.
///
/// A table has columns or rows for distances up to `farthest`. No text may have more than `farthest + 1` tokens.
#[derive(Debug, Clone, Copy)]
pub enum Distances<'a> {
    /// They do not, or only by the rotation of queries and keys.
    None,
    /// A bias for each head and distance is added: float32 `[heads, 2 * farthest + 1]`, column `farthest + d`.
    Bias {
        /// The biases.
        table: &'a [f32],
        /// The largest distance.
        farthest: usize,
    },
    /// Products with embeddings of distances are added before the division (He, Liu, Gao and Chen 2020).
    Disentangled(DisentangledTables<'a>),
}

/// The embeddings of distances as keys and as queries.
#[derive(Debug, Clone, Copy)]
pub struct DisentangledTables<'a> {
    /// Multiplied by the query, float32 `[rows, heads, head_size]`; empty if there is no such product.
    pub keys: &'a [f32],
    /// Multiplied by the key, float32 `[rows, heads, head_size]`; empty if there is no such product.
    pub queries: &'a [f32],
    /// The row of both tables for distance `d`, at `farthest + d`: `[2 * farthest + 1]`.
    pub rows: &'a [u32],
}

thread_local! {
    /// Reused, because fresh pages would cost more than the arithmetic of a short text. It grows to fit the thread's
    /// longest text.
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { floats: Vec::new(), tiles: Vec::new() }) };
}

/// Memory for one head's keys, values and scores.
#[derive(Debug, Default)]
struct Scratch {
    floats: Vec<f32>,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other architecture has tiles"))]
    tiles: Vec<Tile>,
}

impl Heads {
    /// The channels of a token's queries, keys and values together.
    pub fn row(self) -> usize {
        (self.query + 2 * self.key) * self.size
    }

    /// The channels of the output.
    pub fn output(self) -> usize {
        self.query * self.size
    }
}

impl Reach {
    /// Every token of the text.
    pub const WHOLE_TEXT: Self = Self { back: None, ahead: None };

    /// The keys, of `count`, that the query at `position` attends to.
    fn keys(self, position: usize, count: usize) -> Range<usize> {
        let start = self.back.map_or(0, |back| position.saturating_sub(back));
        let end = self.ahead.map_or(count, |ahead| (position.saturating_add(ahead).saturating_add(1)).min(count));
        start..end
    }
}

impl Distances<'_> {
    /// The number of tokens of the longest text.
    fn limit(&self) -> usize {
        match self {
            Self::None => usize::MAX,
            Self::Bias { farthest, .. } => farthest + 1,
            Self::Disentangled(tables) => tables.rows.len() / 2 + 1,
        }
    }

    fn check(&self, heads: Heads) {
        match self {
            Self::None => {}
            Self::Bias { table, farthest } => {
                assert_eq!(table.len(), heads.query * (2 * farthest + 1), "the bias must be [heads, 2 * farthest + 1]");
            }
            Self::Disentangled(tables) => {
                assert_eq!(heads.query, heads.key, "with embeddings of distances, every head has its own keys");
                assert!(tables.rows.len() % 2 == 1, "there must be a row for every distance");
                let last = tables.rows.iter().max().map_or(0, |&row| row as usize);
                for table in [tables.keys, tables.queries].into_iter().filter(|table| !table.is_empty()) {
                    assert!(table.len() > last * heads.output(), "the embeddings must be [rows, heads, head_size]");
                }
            }
        }
    }
}

impl Kernels {
    /// Computes `softmax(q k^T / divisor + bias) v` for every text and query head, over the keys within reach. `output`
    /// is float32 `[tokens, query heads, head_size]`.
    ///
    /// # Panics
    /// If a slice does not have its documented shape, or a text is too long for the distances.
    pub fn attention(self, parallel: &dyn Parallel, input: &AttentionInput<'_>, offsets: &Offsets, output: &mut [f32]) {
        let tokens = offsets.tokens();
        let heads = input.heads;
        assert!(heads.query.is_multiple_of(heads.key), "the query heads must be divided evenly among the key heads");
        assert_eq!(output.len(), tokens * heads.output(), "the output must be [tokens, query heads, head_size]");
        assert_eq!(input.qkv.len(), tokens * heads.row(), "the input must be [tokens, all heads, head_size]");
        input.distances.check(heads);
        let longest = offsets.texts().map(|text| text.len()).max().unwrap_or(0);
        assert!(longest <= input.distances.limit(), "a text of {longest} tokens is too long for the bias");
        let tasks = plan::tasks(offsets, heads.query, heads.size, parallel.threads());
        let outputs = Disjoint::new(output);
        let run = |index: usize| {
            let mut scratch = SCRATCH.take();
            let work = work::Work { input, task: &tasks[index], outputs: &outputs };
            match self.tiles() {
                Some(kernels) if tiles::is_worth_using(work.task.text.len(), &input.distances) => {
                    kernels.run(tiles::AttendOnTiles { work, scratch: &mut scratch });
                }
                _ => self.dispatch(head::Attend { work, scratch: &mut scratch }),
            }
            SCRATCH.set(scratch);
        };
        let parallel = if plan::worth_sharing(&tasks, heads.size) { parallel } else { &Serial };
        run_each_once(parallel, tasks.len(), &run);
    }
}
