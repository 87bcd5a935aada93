//! The modules after the pooling.

use embedd_kernels::{Activation, NormKind};

use super::{Linear, Norm};
use crate::source::{ModuleConfig, ModuleKind};
use crate::weights::{Weights, WeightsError};

/// The value that PyTorch's layer norm adds to the variance.
const EPSILON: f32 = 1e-5;

/// What happens to a pooled vector.
#[derive(Debug)]
pub(crate) enum Module<'w> {
    /// A linear layer, then an activation if there is one.
    Dense { linear: Linear<'w>, activation: Option<Activation> },
    /// Normalization over the components.
    Norm(Norm<'w>),
}

/// The weights of the modules that have some, in order.
#[derive(Debug, Default)]
pub(crate) struct ModuleWeights(Vec<Weights>);

impl Module<'_> {
    /// The number of components that it produces; `None` if it does not change.
    pub(crate) fn width(&self) -> Option<usize> {
        match self {
            Self::Dense { linear, .. } => Some(linear.outputs()),
            Self::Norm(_) => None,
        }
    }
}

impl<'w> Module<'w> {
    pub(crate) fn dense(&self) -> Option<&Linear<'w>> {
        match self {
            Self::Dense { linear, .. } => Some(linear),
            Self::Norm(_) => None,
        }
    }
}

impl ModuleWeights {
    pub(crate) fn new(weights: Vec<Weights>) -> Self {
        Self(weights)
    }

    /// The modules with these configurations.
    pub(super) fn describe(&self, configs: &[ModuleConfig]) -> Result<Vec<Module<'_>>, WeightsError> {
        configs.iter().zip(&self.0).map(|(config, weights)| module(config, weights)).collect()
    }
}

fn module<'w>(config: &ModuleConfig, weights: &'w Weights) -> Result<Module<'w>, WeightsError> {
    let because = &config.file;
    match config.kind {
        ModuleKind::Dense { inputs, outputs, bias, activation } => Ok(Module::Dense {
            linear: Linear {
                weight: weights.tensor("linear.weight", &[outputs, inputs], because)?,
                bias: bias.then(|| weights.tensor("linear.bias", &[outputs], because)).transpose()?,
            },
            activation,
        }),
        ModuleKind::LayerNorm { channels } => Ok(Module::Norm(Norm {
            kind: NormKind::Layer,
            weight: weights.tensor("norm.weight", &[channels], because)?,
            plus_one: false,
            bias: Some(weights.tensor("norm.bias", &[channels], because)?),
            epsilon: EPSILON,
        })),
    }
}
