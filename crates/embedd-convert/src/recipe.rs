//! The named ways to quantize the portable model.

use std::fmt;
use std::str::FromStr;

use super::{FLOAT16, UNQUANTIZED, native};

/// A way to quantize. `docs/QUANTIZATION.md` compares size, speed and accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Recipe {
    /// INT8 weights with a scale per output channel, and INT8 activations with a scale per token; the largest input
    /// channels stay exact. Quantizing a token does not depend on other tokens.
    #[default]
    PerToken,
    /// INT8 weights and activations with one scale per tensor, the default of the stock tool. Fast, but inaccurate for
    /// models with outlier channels; included for comparison.
    DynamicPerTensor,
    /// Half-precision weights; computation in float32.
    Fp16,
}

/// The text is not the name of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown recipe `{text}`; valid recipes are {}", Recipe::ALL.map(|recipe| format!("`{recipe}`")).join(", "))]
pub struct InvalidRecipe {
    text: String,
}

impl Recipe {
    /// Every recipe, the default first.
    pub const ALL: [Self; 3] = [Self::PerToken, Self::DynamicPerTensor, Self::Fp16];

    /// The name on the command line and in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerToken => "int8-per-token",
            Self::DynamicPerTensor => "dynamic-per-tensor",
            Self::Fp16 => "fp16",
        }
    }

    /// The type of most weights: `int8` or `fp16`.
    pub fn precision(self) -> &'static str {
        match self {
            Self::PerToken | Self::DynamicPerTensor => "int8",
            Self::Fp16 => "fp16",
        }
    }
}

/// The type of most weights (`fp32`, `fp16` or `int8`) for a recipe's name in a manifest; `None` if this version does
/// not know the recipe.
pub fn precision_of(name: &str) -> Option<&'static str> {
    match name {
        UNQUANTIZED => Some("fp32"),
        FLOAT16 => Some("fp16"),
        native::RECIPE => Some(native::PRECISION),
        _ => name.parse().ok().map(Recipe::precision),
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Recipe {
    type Err = InvalidRecipe;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|recipe| recipe.name() == text)
            .ok_or_else(|| InvalidRecipe { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_and_their_precision_are_found_by_name() {
        for recipe in Recipe::ALL {
            assert_eq!(recipe.name().parse(), Ok(recipe));
        }
        for (name, precision) in [
            ("none", Some("fp32")),
            ("int8-per-token", Some("int8")),
            ("dynamic-per-tensor", Some("int8")),
            ("int8-groups", Some("int8")),
            ("fp16", Some("fp16")),
            ("float16", Some("fp16")),
            ("int8-magic", None),
        ] {
            assert_eq!(precision_of(name), precision, "{name}");
        }
        let error = "magic".parse::<Recipe>().expect_err("an unknown recipe").to_string();
        assert!(error.contains("`int8-per-token`"), "{error}");
    }
}
