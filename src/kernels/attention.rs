//! Attention within each text; nothing is padded.

use super::{Kernels, Offsets, Parallel};

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

impl Kernels {
    /// `softmax(q k^T / sqrt(head_size) + bias) v` for every text and head: to `output`, float32
    /// `[tokens, heads, head_size]`.
    ///
    /// # Panics
    /// Where the slices do not have these shapes, or a text is longer than the bias reaches.
    pub fn attention(
        self,
        _parallel: &dyn Parallel,
        input: &AttentionInput<'_>,
        offsets: &Offsets,
        output: &mut [f32],
    ) {
        let tokens = offsets.tokens();
        let hidden = input.qkv.len() / 3 / tokens;
        let size = hidden / input.heads;
        assert_eq!(output.len(), tokens * hidden, "the output is [tokens, heads, head_size]");
        let scale = 1.0 / (size as f32).sqrt();
        let part = |token: usize, which: usize, head: usize| {
            &input.qkv[token * 3 * hidden + which * hidden + head * size..][..size]
        };
        for text in offsets.texts() {
            for head in 0..input.heads {
                for query in text.clone() {
                    let score = |key: usize| {
                        let dot: f32 = part(query, 0, head).iter().zip(part(key, 1, head)).map(|(a, b)| a * b).sum();
                        let bias = input.bias.map_or(0.0, |bias| {
                            bias.table[head * (2 * bias.farthest + 1) + bias.farthest + key - query]
                        });
                        dot * scale + bias
                    };
                    let scores: Vec<f32> = text.clone().map(score).collect();
                    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let weights: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
                    let sum: f32 = weights.iter().sum();
                    let output = &mut output[query * hidden + head * size..][..size];
                    output.fill(0.0);
                    for (key, weight) in text.clone().zip(&weights) {
                        let value = part(key, 2, head);
                        output.iter_mut().zip(value).for_each(|(out, value)| *out += weight * value);
                    }
                    output.iter_mut().for_each(|out| *out /= sum);
                }
            }
        }
    }
}
