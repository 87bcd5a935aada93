//! The rules by which a batch forms: pure functions of the lengths that wait.

use std::num::NonZeroUsize;

/// What one batch may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Tokens, padding included. A single text may exceed it: it is then alone.
    pub tokens: NonZeroUsize,
}

/// How many of the waiting texts, from the first on, make up the next batch: as many as fit, at least one.
///
/// A batch costs its longest text times its texts, because every text is padded to the longest.
pub(super) fn next_batch(lengths: impl IntoIterator<Item = usize>, limits: BatchLimits) -> usize {
    let mut longest = 0;
    lengths
        .into_iter()
        .enumerate()
        .take_while(|&(before, length)| {
            longest = longest.max(length);
            before == 0 || longest.saturating_mul(before + 1) <= limits.tokens.get()
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_takes_texts_in_order_while_their_padded_size_fits() {
        let cases: [(&[usize], usize, usize); 8] = [
            (&[], 100, 0),
            (&[11], 100, 1),
            (&[384], 100, 1),
            (&[384, 2], 100, 1),
            (&[10, 10, 10], 30, 3),
            (&[10, 10, 10], 29, 2),
            (&[2, 50, 2], 100, 2),
            (&[2, 2, 50, 2], 100, 2),
        ];
        for (lengths, tokens, expected) in cases {
            let limits = BatchLimits { tokens: NonZeroUsize::new(tokens).expect("not zero") };
            assert_eq!(next_batch(lengths.iter().copied(), limits), expected, "{lengths:?} within {tokens}");
        }
    }
}
