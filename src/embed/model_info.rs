//! Facts about the loaded model.

use std::sync::Arc;

use crate::encoding::Ranges;
use crate::model_names::ModelNames;
use embedd_model::bundle::{AccuracyRecord, Pooling, Variant};
use embedd_model::engine::{Device, Gpu};
use embedd_model::tokenize::Truncation;
use embedd_model::{PromptChoice, Prompts};

/// Facts about the loaded model.
#[derive(Debug, Clone)]
pub(crate) struct ModelInfo {
    /// The names that callers use.
    pub names: ModelNames,
    /// The fingerprint of the bundle; it changes if any byte of the bundle does.
    pub fingerprint: String,
    /// SHA-256 of the source's weights.
    pub revision: String,
    /// The bundle's engine that is running.
    pub variant: Variant,
    /// The GPU that runs the engine; `None` if CPUs do.
    pub gpu: Option<Gpu>,
    /// The instruction set that the engine uses, for example `avx512-vnni`.
    pub instruction_set: String,
    /// The quantization recipe of the weights.
    pub quantization: String,
    /// The accuracy compared with PyTorch, if it was measured.
    pub accuracy: Option<AccuracyRecord>,
    /// How the hidden states of the tokens become one vector.
    pub pooling: Pooling,
    /// What happens to texts that are too long, unless the request says otherwise.
    pub default_truncation: Truncation,
    /// The prompts, with the server's default.
    pub prompts: Prompts,
    /// The model's own default prompt, which reference embeddings have, whatever the server's default is.
    pub own_default_prompt: PromptChoice,
    /// The ranges of the vectors' components, if the bundle has a reference set.
    pub ranges: Option<Arc<Ranges>>,
    /// The version of the ONNX Runtime library.
    pub runtime_version: String,
    /// Sessions in the pool.
    pub sessions: usize,
    /// Threads per session.
    pub threads: usize,
}

impl ModelInfo {
    /// The processor that runs the model: `cpu`, or a GPU such as `cuda:0 (NVIDIA L4)`.
    pub(crate) fn device(&self) -> String {
        self.gpu.as_ref().map_or_else(|| Device::Cpu.to_string(), Gpu::to_string)
    }

    /// The type of the weights, by the names of text-embeddings-inference.
    pub(crate) fn dtype(&self) -> &'static str {
        match self.variant {
            Variant::Fp32 => "float32",
            Variant::Fp16 => "float16",
            Variant::Portable | Variant::Native => "int8",
        }
    }
}
