//! What to convert, and how to quantize and measure it.

use std::path::PathBuf;

use super::recipe::Recipe;
use super::validate::DEFAULT_THRESHOLD;
use embedd_model::engine::{Device, OnnxRuntime};

/// What to convert, and where to write it.
#[derive(Debug, Clone)]
pub struct Conversion {
    /// The sentence-transformers folder.
    pub source: PathBuf,
    /// The folder of the new bundle.
    pub output: PathBuf,
    /// The name of the model, which the manifest records.
    pub name: String,
    /// The revision of the model that was requested from the hub, which the manifest records.
    pub revision: Option<String>,
    /// The commit of that revision, which the manifest records.
    pub commit: Option<String>,
    /// Whether to replace an existing bundle in `output`.
    pub replace: bool,
    /// How to quantize and measure the models. `None` writes only the float32 model, without running it.
    pub proof: Option<ProofPlan>,
}

/// How to quantize and measure the models, and the runtime that runs them.
#[derive(Debug, Clone)]
pub struct ProofPlan {
    /// The runtime that runs the models.
    pub runtime: OnnxRuntime,
    /// How to quantize and measure the models.
    pub making: Making,
}

/// How to quantize, compare, time and report the models.
#[derive(Debug, Clone, PartialEq)]
pub struct Making {
    /// How to quantize the portable model. An INT8 recipe also produces the native model; `None` produces neither.
    pub recipe: Option<Recipe>,
    /// Whether to write the float16 model, which is for GPUs.
    pub fp16: bool,
    /// The accuracy that the models must reach.
    pub gate: Gate,
    /// The reference set to compare with. `None` uses the built-in set for these weights, if there is one.
    pub reference: Option<PathBuf>,
    /// A file with the latency of other programs, for the report; see [`baseline`](crate::baseline).
    pub baseline: Option<PathBuf>,
    /// Whether to time the models, try the stock recipe for comparison, and write the report.
    pub report: bool,
    /// Whether to emulate CPUs with AMX, if this is not one, to measure the accuracy that the native model has there.
    pub emulate: bool,
}

impl Default for Making {
    fn default() -> Self {
        Self {
            recipe: Some(Recipe::default()),
            fp16: false,
            gate: Gate::default(),
            reference: None,
            baseline: None,
            report: true,
            emulate: true,
        }
    }
}

impl Making {
    /// What sessions on this device need: INT8 models on CPUs, the float16 model on GPUs.
    pub fn of(device: Device) -> Self {
        match device {
            Device::Cpu => Self::default(),
            Device::Cuda(_) => Self { recipe: None, fp16: true, ..Self::default() },
        }
    }
}

/// The accuracy gate, which a model must pass to be served and packaged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    /// The minimum cosine to PyTorch of every text.
    pub min_cosine: f64,
    /// Whether to write a model that fails, marked as inaccurate.
    pub allow_inaccurate: bool,
}

impl Default for Gate {
    fn default() -> Self {
        Self { min_cosine: DEFAULT_THRESHOLD, allow_inaccurate: false }
    }
}
