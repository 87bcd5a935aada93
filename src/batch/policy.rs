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

/// A batch that is being formed from the queued texts in the order of service.
#[derive(Debug)]
pub(super) struct NextBatch {
    limits: BatchLimits,
    /// Maximum number of tokens.
    budget: usize,
    texts: usize,
    longest: usize,
    tokens: usize,
}

impl NextBatch {
    /// If several sessions are `idle` (including this one), a batch takes only its share of the `queued` tokens: two
    /// sessions with half of the texts each finish sooner than one with all of them.
    pub(super) fn new(limits: BatchLimits, queued: usize, idle: usize) -> Self {
        let budget = if idle <= 1 { limits.tokens.get() } else { limits.tokens.get().min(queued.div_ceil(idle)) };
        Self { limits, budget, texts: 0, longest: 0, tokens: 0 }
    }

    /// Adds the next text if it fits. The first one always does.
    pub(super) fn add(&mut self, tokens: usize) -> bool {
        let longest = self.longest.max(tokens);
        let sum = self.tokens.saturating_add(tokens);
        let size = if self.limits.padded { longest.saturating_mul(self.texts + 1) } else { sum };
        let fits = self.texts == 0 || (self.texts < self.limits.texts.get() && size <= self.budget);
        if fits {
            self.texts += 1;
            self.longest = longest;
            self.tokens = sum;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(tokens: usize, texts: usize, padded: bool) -> BatchLimits {
        let not_zero = |number| NonZeroUsize::new(number).expect("not zero");
        BatchLimits { tokens: not_zero(tokens), texts: not_zero(texts), padded }
    }

    /// How many of the texts form the next batch.
    fn next_batch(lengths: &[usize], limits: BatchLimits, idle: usize) -> usize {
        let mut batch = NextBatch::new(limits, lengths.iter().sum(), idle);
        lengths.iter().take_while(|&&tokens| batch.add(tokens)).count()
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
            let next = |is_padded| next_batch(lengths, limits(tokens, 8, is_padded), 1);
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
            let found = next_batch(lengths, limits(100, 100, false), idle);
            assert_eq!(found, expected, "{lengths:?} for {idle} sessions");
        }
    }
}
