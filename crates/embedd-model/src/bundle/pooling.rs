//! How the hidden states of a text's tokens become one vector.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One way to pool, with the names of sentence-transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolingMode {
    /// The mean over all tokens, including special tokens.
    Mean,
    /// The sum over all tokens, divided by the square root of their number.
    MeanSqrtLen,
    /// The mean over all tokens, the n-th of which, counted from 1, has weight n.
    WeightedMean,
    /// The maximum of each channel over all tokens.
    Max,
    /// The hidden state of the first token.
    Cls,
    /// The hidden state of the last token.
    LastToken,
}

/// One or more modes. The vectors of several modes are concatenated.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pooling(Vec<PoolingMode>);

/// Names in manifests are those of the modes, joined by this.
const AND: char = '+';
/// sentence-transformers has as many modes.
const MAX_MODES: usize = 6;

impl PoolingMode {
    /// All modes.
    pub const ALL: [Self; 6] =
        [Self::Mean, Self::MeanSqrtLen, Self::WeightedMean, Self::Max, Self::Cls, Self::LastToken];

    /// The name in manifests, and in the configuration of sentence-transformers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::MeanSqrtLen => "mean_sqrt_len_tokens",
            Self::WeightedMean => "weightedmean",
            Self::Max => "max",
            Self::Cls => "cls",
            Self::LastToken => "lasttoken",
        }
    }

    /// The mode with this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

impl Pooling {
    /// The mean.
    pub fn mean() -> Self {
        Self(vec![PoolingMode::Mean])
    }

    /// The modes in the order of their vectors, or `None` if there are none or too many.
    pub fn new(modes: Vec<PoolingMode>) -> Option<Self> {
        (1..=MAX_MODES).contains(&modes.len()).then_some(Self(modes))
    }

    /// The modes, in the order of their vectors; at least one.
    pub fn modes(&self) -> &[PoolingMode] {
        &self.0
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|mode| mode.name()).collect();
        f.write_str(&names.join(&AND.to_string()))
    }
}

impl From<Pooling> for String {
    fn from(pooling: Pooling) -> Self {
        pooling.to_string()
    }
}

impl TryFrom<String> for Pooling {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let modes: Option<Vec<_>> = name.split(AND).map(PoolingMode::of).collect();
        modes.and_then(Self::new).ok_or_else(|| format!("unknown pooling `{name}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for modes in [vec![PoolingMode::Cls], PoolingMode::ALL.to_vec(), vec![PoolingMode::Mean, PoolingMode::Max]] {
            let pooling = Pooling::new(modes).expect("modes");
            assert_eq!(Pooling::try_from(pooling.to_string()), Ok(pooling));
        }
        assert_eq!(Pooling::mean().to_string(), "mean");
        for unknown in ["", "+", "mean+", "Mean", &["mean"; 7].join("+")] {
            assert!(Pooling::try_from(unknown.to_owned()).is_err(), "{unknown}");
        }
    }
}
