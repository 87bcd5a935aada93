//! Compares the converted models with the reference, times them and writes the report.

use std::num::NonZeroUsize;
use std::path::Path;

use super::baseline::Baseline;
use super::benchmark::{DEFAULT_MAX_TIME, Engine, Plan, benchmark, short_lengths};
use super::calibrate::Calibration;
use super::machine::Machine;
use super::recipe::{Recipe, precision_of};
use super::report::{HTML_FILE, JSON_FILE, MARKDOWN_FILE, RecipeTried, ReferenceSummary, Report, worst};
use super::validate::{Batches, Comparison, ReferenceTexts, check_dimension, reference_of, validate};
use super::writer::{BundleWriter, Description};
use super::{ConvertError, GateFailure, ProofPlan, UNQUANTIZED};
use crate::encoder::LinearInput;
use embedd_common::progress::Progress;
use embedd_kernels::InstructionSet;
use embedd_model::bundle::{ModelRecord, REFERENCE_FILE, ReferenceKind, Variant};
use embedd_model::engine::{LoadError, OnnxRuntime, Session, SessionOptions};
use embedd_model::reference::{ReferenceError, ReferenceSet, built_in, built_in_texts};
use embedd_model::threads::default_threads;
use embedd_model::tokenize::{Prompt, Tokenizer};

/// Timed runs of each engine and length.
const RUNS: usize = 20;

/// The reference, the means to run models, and the results so far.
pub(super) struct Proof<'p> {
    plan: &'p ProofPlan,
    progress: &'p Progress,
    /// One thread per CPU; timings use the server's default instead.
    options: SessionOptions,
    name: String,
    tokenizer: Tokenizer,
    /// The model's default prompt.
    prompt: Option<Prompt>,
    reference: Option<Reference>,
    baseline: Option<Baseline>,
    compared: Vec<Compared>,
    tried: Vec<RecipeTried>,
}

/// A reference set and the bytes of its file, which become part of the bundle.
struct Reference {
    set: ReferenceSet,
    bytes: Vec<u8>,
    origin: String,
}

/// A model's accuracy.
struct Compared {
    variant: Variant,
    comparison: Comparison,
}

impl<'p> Proof<'p> {
    pub(super) fn begin(
        plan: &'p ProofPlan,
        description: &Description,
        tokenizer: &Path,
        progress: &'p Progress,
    ) -> Result<Self, ConvertError> {
        let reference = Reference::find(plan.making.reference.as_deref(), description.source.weights_sha256.as_str())?;
        match &reference {
            Some(reference) => check_dimension(&reference.set, description.dimension as usize)?,
            None => progress.note(
                "no reference set for this model: quantized models are compared with its own float32 version; to compare \
                 them with PyTorch, create a set with reference/make_reference.py and pass it with --reference",
            ),
        }
        let max_tokens = reference.as_ref().map_or(description.max_tokens, |reference| reference.set.max_tokens);
        let tokenizer = Tokenizer::read(tokenizer, max_tokens, description.lowercase)?;
        let prompt = description.default_prompt().map(|text| tokenizer.prompt(text, description.exclude_prompt));
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let options = SessionOptions { threads };
        let baseline = plan.making.baseline.as_deref().map(Baseline::read).transpose()?;
        if let Some(baseline) = &baseline {
            baseline.check_model(&description.name)?;
        }
        Ok(Self {
            plan,
            progress,
            options,
            name: description.name.clone(),
            tokenizer,
            prompt: prompt.transpose()?,
            reference,
            baseline,
            compared: Vec::new(),
            tried: Vec::new(),
        })
    }

    pub(super) fn calibrate(
        &self,
        model: &Path,
        inputs: &[((usize, LinearInput), usize)],
    ) -> Result<Calibration, ConvertError> {
        let Self { plan, tokenizer, options, progress, .. } = self;
        Ok(Calibration::measure(&plan.runtime, model, inputs, tokenizer, *options, progress)?)
    }

    /// Applies the accuracy gate to a model. Adds its accuracy and the reference set to the bundle.
    pub(super) fn check(&mut self, variant: Variant, writer: &mut BundleWriter) -> Result<(), ConvertError> {
        self.check_by(variant, None, writer)
    }

    /// As [`check`](Self::check). If a graph is named, it runs in place of the model, because it computes the same.
    pub(super) fn check_by(
        &mut self,
        variant: Variant,
        graph: Option<&str>,
        writer: &mut BundleWriter,
    ) -> Result<(), ConvertError> {
        let Some(model) = writer.models().get(&variant).cloned() else { return Ok(()) };
        let measured = match graph {
            Some(file) => ModelRecord { file: file.to_owned(), ..model.clone() },
            None => model.clone(),
        };
        let recipe = &model.quantization;
        // In float32, batching affects embeddings only by rounding, and the comparison would be slow. What it does to
        // float16 depends on the GPU.
        let batches = match variant {
            Variant::Fp32 | Variant::Fp16 => Batches::Skipped,
            Variant::Portable | Variant::Native => Batches::Compared,
        };
        if variant == Variant::Fp32 && self.reference.is_none() {
            self.reference = Some(self.own_reference(&measured, writer)?);
            return Ok(());
        }
        let runtime = match variant {
            Variant::Native => self.runtime_with(InstructionSet::best_for_int8())?,
            _ => self.plan.runtime.clone(),
        };
        let session = || session(&runtime, &measured, writer, self.options);
        let Some(comparison) = self.compare(recipe, session, batches)? else { return Ok(()) };
        let accuracy = &comparison.accuracy;
        if !accuracy.summary.passed && !self.plan.making.gate.allow_inaccurate {
            return Err(GateFailure { variant, recipe: recipe.clone(), accuracy: comparison.accuracy }.into());
        }
        if let Some(reference) = &self.reference {
            writer.add_accuracy(variant, accuracy.record(reference.set.kind()));
            writer.write(REFERENCE_FILE, &reference.bytes)?;
        }
        if variant != Variant::Fp32 {
            self.note_recipe(recipe, &comparison, writer.model_bytes(&model), true);
        }
        self.compared.push(Compared { variant, comparison });
        Ok(())
    }

    /// Compares the native model with activations in bfloat16, as CPUs with AMX compute it, if this CPU can do so or
    /// emulate it. A model that fails is served with quantized activations, even by such CPUs.
    pub(super) fn check_bf16(&mut self, writer: &mut BundleWriter) -> Result<(), ConvertError> {
        let Some(set) = InstructionSet::best_for_bf16() else { return Ok(()) };
        if set == InstructionSet::EmulatedAmxBf16 && !self.plan.making.emulate {
            return Ok(());
        }
        let Some(model) = writer.models().get(&Variant::Native).cloned() else { return Ok(()) };
        let runtime = self.runtime_with(set)?;
        let session = || session(&runtime, &model, writer, self.options);
        let recipe = format!("{} with bfloat16 activations", model.quantization);
        // An emulation is slow; that batches do not change its bits is tested.
        let batches = if set == InstructionSet::AmxBf16 { Batches::Compared } else { Batches::Skipped };
        let Some(comparison) = self.compare(&recipe, session, batches)? else { return Ok(()) };
        if comparison.accuracy.summary.passed || self.plan.making.gate.allow_inaccurate {
            if let Some(reference) = &self.reference {
                writer.add_accuracy_bf16(comparison.accuracy.record(reference.set.kind()));
            }
        } else {
            self.progress.note("CPUs with AMX will quantize activations, like all others");
        }
        let accepted = comparison.accuracy.summary.passed;
        self.note_recipe(&recipe, &comparison, writer.model_bytes(&model), accepted);
        Ok(())
    }

    fn runtime_with(&self, set: InstructionSet) -> Result<OnnxRuntime, LoadError> {
        self.plan.runtime.clone().with_instruction_set(Some(set))
    }

    /// Removes a model that failed the gate and has a substitute in the bundle. If the portable model was compared with
    /// PyTorch, by a set that was made for this model, it is an error instead.
    pub(super) fn leave_out(
        &self,
        engine: Variant,
        error: ConvertError,
        writer: &mut BundleWriter,
    ) -> Result<(), ConvertError> {
        let kind = self.reference.as_ref().map(|reference| reference.set.kind());
        match error {
            ConvertError::Gate(failure) if engine == Variant::Fp16 => {
                self.progress.note(&format!(
                    "the fp16 model failed the accuracy gate: minimum cosine {:.5}, threshold {:.5}; its values probably \
                     exceed the range of float16. The bundle is written without it: GPUs will run the fp32 model",
                    failure.accuracy.summary.min_cosine, failure.accuracy.summary.threshold
                ));
                Ok(writer.remove_model(engine)?)
            }
            ConvertError::Gate(failure) if kind == Some(ReferenceKind::Float32) => {
                self.progress.note(&format!("{failure}. The bundle is written without it"));
                Ok(writer.remove_model(engine)?)
            }
            other => Err(other),
        }
    }

    /// The embeddings of the float32 model for the built-in texts.
    fn own_reference(&self, model: &ModelRecord, writer: &BundleWriter) -> Result<Reference, ConvertError> {
        let texts = built_in_texts()?;
        let mut session = session(&self.plan.runtime, model, writer, self.options)?;
        let set =
            reference_of(session.as_mut(), &self.name, &self.tokenizer, self.prompt.as_ref(), &texts, self.progress)?;
        Ok(Reference { bytes: set.to_bytes(), set, origin: "its own float32 model".to_owned() })
    }

    /// Measures a model that does not become part of the bundle.
    pub(super) fn try_recipe(&mut self, recipe: Recipe, file: &str, writer: &BundleWriter) -> Result<(), ConvertError> {
        let session = || self.plan.runtime.session(&writer.path(file), self.options);
        if let Some(comparison) = self.compare(recipe.name(), session, Batches::Skipped)? {
            self.note_recipe(recipe.name(), &comparison, writer.bytes(file), false);
        }
        Ok(())
    }

    fn compare(
        &self,
        recipe: &str,
        session: impl FnOnce() -> Result<Box<dyn Session>, LoadError>,
        batches: Batches,
    ) -> Result<Option<Comparison>, ConvertError> {
        let Some(Reference { set, .. }) = &self.reference else { return Ok(None) };
        let mut session = session()?;
        let texts = ReferenceTexts::of(set, &self.tokenizer, self.prompt.as_ref())?;
        let recipe = if recipe == UNQUANTIZED { "float32" } else { recipe };
        let threshold = self.plan.making.gate.min_cosine;
        let comparison = validate(session.as_mut(), recipe, &texts, threshold, batches, self.progress)?;
        let summary = &comparison.accuracy.summary;
        self.progress.note(&format!(
            "{recipe}: minimum cosine to the reference {:.5}, mean {:.5}, {} texts: {}",
            summary.min_cosine,
            summary.mean_cosine,
            summary.texts,
            if summary.passed { "passed" } else { "FAILED" }
        ));
        Ok(Some(comparison))
    }

    fn note_recipe(&mut self, recipe: &str, comparison: &Comparison, bytes: u64, accepted: bool) {
        let Some(Reference { set, .. }) = &self.reference else { return };
        let Comparison { accuracy, top10_overlap, .. } = comparison;
        let summary = &accuracy.summary;
        let verdict = if summary.passed { "passed" } else { "failed" };
        self.tried.push(RecipeTried {
            recipe: recipe.to_owned(),
            precision: precision_of(recipe).map(str::to_uppercase),
            bytes: Some(bytes),
            worst: worst(accuracy, set),
            accepted,
            reason: Some(format!("{verdict} the accuracy gate of {}", summary.threshold)),
            accuracy: Some(summary.clone()),
            top10_overlap: *top10_overlap,
        });
    }

    /// Times the bundle's models and writes the report.
    pub(super) fn report(self, description: &Description, writer: &mut BundleWriter) -> Result<(), ConvertError> {
        let mut report = Report::of(&writer.manifest(description), Machine::of(&self.plan.runtime));
        if let Some(Reference { set, origin, .. }) = &self.reference {
            for Compared { variant, comparison } in &self.compared {
                report.add_comparison(*variant, comparison.clone(), set);
            }
            report.reference = Some(ReferenceSummary {
                origin: origin.clone(),
                texts: set.texts.len(),
                provenance: set.provenance.clone(),
            });
        }
        // The same settings as in `embedd bench`.
        let options = SessionOptions { threads: default_threads(self.options.threads) };
        let mut engines = Vec::new();
        // On CPUs, ONNX Runtime emulates float16, which says nothing about GPUs.
        for (variant, model) in writer.models().iter().filter(|(variant, _)| **variant != Variant::Fp16) {
            let session = session(&self.plan.runtime, model, writer, options)?;
            engines.push(Engine { name: variant.to_string(), session });
        }
        // Long texts would take most of the conversion's time.
        let lengths = short_lengths(self.tokenizer.max_tokens());
        let plan = Plan { lengths, batches: vec![1], runs: RUNS, max_time: Some(DEFAULT_MAX_TIME) };
        let measured = benchmark(&mut engines, &self.tokenizer, &plan, self.progress)?;
        report.add_latency(measured, options.threads.get());
        if let Some(baseline) = &self.baseline {
            report.add_baseline(baseline);
        }
        report.recipes = self.tried;
        report.write(&writer.path("."))?;
        for file in [JSON_FILE, MARKDOWN_FILE, HTML_FILE] {
            writer.adopt(file)?;
        }
        Ok(())
    }
}

fn session(
    runtime: &OnnxRuntime,
    model: &ModelRecord,
    writer: &BundleWriter,
    options: SessionOptions,
) -> Result<Box<dyn Session>, LoadError> {
    let graph = writer.path(&model.file);
    let Some(weights) = &model.weights else { return runtime.session(&graph, options) };
    runtime.native_session(&graph, &writer.path(weights), options)
}

impl Reference {
    /// The given set, or else the built-in one for these weights.
    fn find(named: Option<&Path>, weights_sha256: &str) -> Result<Option<Self>, ReferenceError> {
        let (path, bytes, origin) = match named {
            Some(path) => {
                let bytes =
                    std::fs::read(path).map_err(|source| ReferenceError::Io { path: path.to_owned(), source })?;
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
                (path, bytes, name)
            }
            None => match built_in(weights_sha256) {
                Some(bytes) => {
                    let origin = "the built-in reference set";
                    (Path::new(REFERENCE_FILE), bytes.to_vec(), origin.to_owned())
                }
                None => return Ok(None),
            },
        };
        Ok(Some(Self { set: ReferenceSet::parse(&bytes, path)?, bytes, origin }))
    }
}
