//! Which rows are a text's.

use std::ops::Range;

/// Where each text begins among the concatenated tokens, and where the last one ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets(Box<[usize]>);

/// Numbers that are no offsets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("text offsets must begin with 0, ascend, and end with the number of tokens, {tokens}")]
pub struct InvalidOffsets {
    /// The tokens that there are.
    pub tokens: usize,
}

impl Offsets {
    /// Checks `offsets`, one more than there are texts, for `tokens` tokens. Every text has at least one token.
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

    /// The rows of each text.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        self.0.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// All tokens.
    pub fn tokens(&self) -> usize {
        self.0.last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_ascend_from_zero_to_the_number_of_tokens() {
        let offsets = Offsets::new(&[0, 3, 4], 4).expect("offsets");
        assert_eq!(offsets.texts().collect::<Vec<_>>(), [0..3, 3..4]);
        for wrong in [&[0, 3, 3, 4][..], &[1, 4], &[0, 5], &[0], &[], &[0, 5, 4], &[0, -1, 4]] {
            assert_eq!(Offsets::new(wrong, 4), Err(InvalidOffsets { tokens: 4 }), "{wrong:?}");
        }
    }
}
