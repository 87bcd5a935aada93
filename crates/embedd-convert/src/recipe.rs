//! The named ways to make the portable model smaller and faster than float32.

use std::fmt;
use std::str::FromStr;

use super::{UNQUANTIZED, native};

/// A way to quantise. What each gains and costs is in `docs/QUANTIZATION.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Recipe {
    /// INT8 weights with a scale for each output channel; activations INT8 with a scale for each token; the input
    /// channels that are largest stay exact. A token's result depends on that token alone.
    #[default]
    PerToken,
    /// INT8 weights and activations with one scale for a whole tensor, as the stock tool does by default. Fast and
    /// wrong for models with outlier channels; here to be measured and refused.
    DynamicPerTensor,
    /// Half-precision weights, computed with in float32.
    Fp16,
}

/// Text that names no recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no recipe; there are {}", Recipe::ALL.map(|recipe| format!("`{recipe}`")).join(", "))]
pub struct InvalidRecipe {
    text: String,
}

impl Recipe {
    /// Every recipe, the default first.
    pub const ALL: [Self; 3] = [Self::PerToken, Self::DynamicPerTensor, Self::Fp16];

    /// As it is recorded and asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerToken => "int8-per-token",
            Self::DynamicPerTensor => "dynamic-per-tensor",
            Self::Fp16 => "fp16",
        }
    }

    /// Of the weights: `int8` or `fp16`.
    pub fn precision(self) -> &'static str {
        match self {
            Self::PerToken | Self::DynamicPerTensor => "int8",
            Self::Fp16 => "fp16",
        }
    }
}

/// What most weights of a model are stored as, by the name of its recipe in the manifest: `fp32`, `fp16` or `int8`;
/// `None` where no recipe of this version has the name.
pub fn precision_of(name: &str) -> Option<&'static str> {
    match name {
        UNQUANTIZED => Some("fp32"),
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
    fn recipes_and_what_they_make_of_weights_are_found_by_their_names() {
        for recipe in Recipe::ALL {
            assert_eq!(recipe.name().parse(), Ok(recipe));
        }
        for (name, precision) in [
            ("none", Some("fp32")),
            ("int8-per-token", Some("int8")),
            ("dynamic-per-tensor", Some("int8")),
            ("int8-groups", Some("int8")),
            ("fp16", Some("fp16")),
            ("int8-magic", None),
        ] {
            assert_eq!(precision_of(name), precision, "{name}");
        }
        let error = "magic".parse::<Recipe>().expect_err("no recipe").to_string();
        assert!(error.contains("`int8-per-token`"), "{error}");
    }
}
