//! The fraction of requests that are traced.

use std::str::FromStr;

/// 0 (none) to 1 (all).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(f64);

/// A ratio is never NaN.
impl Eq for Ratio {}

impl Ratio {
    pub(super) fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        parsed.map(Self).ok_or_else(|| "a number from 0 to 1, such as `0.05`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_range_from_0_to_1() {
        for (text, ratio) in [("0", 0.0), ("1", 1.0), ("0.05", 0.05), ("1e-3", 0.001)] {
            assert_eq!(text.parse(), Ok(Ratio(ratio)));
        }
        for invalid in ["", "-0.1", "1.1", "NaN", "inf", "5%", "all"] {
            assert!(invalid.parse::<Ratio>().is_err(), "{invalid}");
        }
    }
}
