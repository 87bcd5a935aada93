//! How batches form: pure functions of the lengths of the queued texts.

use std::num::NonZeroUsize;

/// The limits of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchLimits {
    /// Tokens, including padding. A single text that exceeds this runs alone.
    pub tokens: NonZeroUsize,
    pub texts: NonZeroUsize,
    /// Whether the engine pads every text of a batch to the longest one.
    pub padded: bool,
}

/// How many of the queued texts, starting with the first, form the next batch: as many as fit, but at least one.
///
/// If several sessions are `idle` (including this one), a batch takes only its share of the tokens: two sessions with
/// half of the texts each finish sooner than one with all of them.
pub(super) fn next_batch(lengths: impl Iterator<Item = usize> + Clone, limits: BatchLimits, idle: usize) -> usize {
    let budget = limits.tokens.get().min(share(lengths.clone(), limits.tokens.get(), idle));
    let mut longest = 0;
    let mut sum = 0usize;
    lengths
        .take(limits.texts.get())
        .enumerate()
        .take_while(|&(before, length)| {
            longest = longest.max(length);
            sum = sum.saturating_add(length);
            let size = if limits.padded { longest.saturating_mul(before + 1) } else { sum };
            before == 0 || size <= budget
        })
        .count()
}

/// The share of the queued tokens for each idle session; at least `max` if there is enough for all of them.
fn share(lengths: impl Iterator<Item = usize>, max: usize, idle: usize) -> usize {
    if idle <= 1 {
        return max;
    }
    let mut total: usize = 0;
    for length in lengths {
        total = total.saturating_add(length);
        if total >= max.saturating_mul(idle) {
            break;
        }
    }
    total.div_ceil(idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(tokens: usize, texts: usize, padded: bool) -> BatchLimits {
        let not_zero = |number| NonZeroUsize::new(number).expect("not zero");
        BatchLimits { tokens: not_zero(tokens), texts: not_zero(texts), padded }
    }

    #[test]
    fn a_batch_takes_texts_in_order_while_they_fit() {
        let cases: [(&[usize], usize, usize, usize); 10] = [
            (&[], 100, 0, 0),
            (&[11], 100, 1, 1),
            (&[384], 100, 1, 1),
            (&[384, 2], 100, 1, 1),
            (&[10, 10, 10], 30, 3, 3),
            (&[10, 10, 10], 29, 2, 2),
            (&[2, 50, 2], 100, 2, 3),
            (&[2, 2, 50, 2], 100, 2, 4),
            (&[60, 30, 10, 1], 100, 1, 3),
            (&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 100, 8, 8),
        ];
        for (lengths, tokens, padded, unpadded) in cases {
            let next = |is_padded| next_batch(lengths.iter().copied(), limits(tokens, 8, is_padded), 1);
            assert_eq!((next(true), next(false)), (padded, unpadded), "{lengths:?} within {tokens}");
        }
    }

    #[test]
    fn idle_sessions_share_the_queued_texts() {
        let cases: [(&[usize], usize, usize); 7] = [
            (&[11], 2, 1),
            (&[11, 11], 2, 1),
            (&[11, 11, 11], 2, 1),
            (&[11, 11, 11, 11], 2, 2),
            (&[40, 10, 10, 10, 10], 2, 1),
            (&[50, 50, 50, 50, 50, 50], 2, 2),
            (&[10; 9], 3, 3),
        ];
        for (lengths, idle, expected) in cases {
            let found = next_batch(lengths.iter().copied(), limits(100, 100, false), idle);
            assert_eq!(found, expected, "{lengths:?} for {idle} sessions");
        }
    }
}
