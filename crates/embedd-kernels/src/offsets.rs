//! The rows of each text in a concatenated batch.

use std::ops::Range;

/// The start of each text among the concatenated tokens, and the end of the last text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets(Box<[usize]>);

/// The numbers are not valid offsets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("text offsets must start at 0, strictly increase, and end at the number of tokens ({tokens})")]
pub struct InvalidOffsets {
    /// The number of tokens in the batch.
    pub tokens: usize,
}

impl Offsets {
    /// Validates the `texts + 1` offsets of a batch of `tokens` tokens. Every text must have at least one token.
    ///
    /// # Errors
    /// [`InvalidOffsets`].
    pub fn new(offsets: &[i64], tokens: usize) -> Result<Self, InvalidOffsets> {
        let ends = offsets.first() == Some(&0) && offsets.last() == i64::try_from(tokens).ok().as_ref();
        if !ends || offsets.len() < 2 || !offsets.is_sorted_by(|a, b| a < b) {
            return Err(InvalidOffsets { tokens });
        }
        // Between 0 and `tokens`, as just checked.
        Ok(Self(offsets.iter().map(|&offset| offset as usize).collect()))
    }

    /// The range of rows of each text.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        self.0.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// The number of tokens in all texts.
    pub fn tokens(&self) -> usize {
        self.0.last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_increase_from_zero_to_the_number_of_tokens() {
        let offsets = Offsets::new(&[0, 3, 4], 4).expect("offsets");
        assert_eq!(offsets.texts().collect::<Vec<_>>(), [0..3, 3..4]);
        for wrong in [&[0, 3, 3, 4][..], &[1, 4], &[0, 5], &[0], &[], &[0, 5, 4], &[0, -1, 4]] {
            assert_eq!(Offsets::new(wrong, 4), Err(InvalidOffsets { tokens: 4 }), "{wrong:?}");
        }
    }
}
