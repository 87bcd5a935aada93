//! Shared by `validate`, `bench` and `report`: the bundle and its engines, the reference set, the baseline.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use super::setup::preparation;
use crate::app;
use crate::cli::Timed;
use crate::config::Configuration;
use embedd_common::progress::Progress;
use embedd_convert::baseline::Baseline;
use embedd_convert::benchmark::{
    DEFAULT_MAX_TIME, DEFAULT_RUNS, Engine, Measurement, Plan, benchmark, default_lengths,
};
use embedd_convert::machine::Machine;
use embedd_convert::report::{ReferenceSummary, Report};
use embedd_convert::validate::{Batches, Comparison, DEFAULT_THRESHOLD, ReferenceTexts, check_dimension, validate};
use embedd_model::bundle::{Bundle, REFERENCE_FILE, Variant};
use embedd_model::engine::{OnnxRuntime, Session, SessionOptions};
use embedd_model::reference::{ReferenceSet, built_in};
use embedd_model::threads::default_threads;
use embedd_model::tokenize::{Prompt, Tokenizer};
use embedd_model::{PromptChoice, Prompts};

/// A bundle to measure.
pub(super) struct MeasuredBundle {
    pub(super) bundle: Bundle,
    pub(super) runtime: OnnxRuntime,
    pub(super) threads: NonZeroUsize,
    pub(super) progress: Progress,
}

impl MeasuredBundle {
    /// Opens the bundle that the settings name, and loads ONNX Runtime. A missing bundle is created.
    pub(super) fn open(configuration: &Configuration) -> anyhow::Result<Self> {
        let settings = &configuration.settings;
        let preparation = preparation(configuration)?;
        let runtime = preparation.runtime()?.with_instruction_set(settings.instruction_set)?;
        let bundle = preparation.bundle(settings, || Ok(runtime.clone()))?;
        let runtime = runtime.for_bundle(&bundle);
        let threads = settings.threads.unwrap_or_else(|| default_threads(app::cpus()));
        Ok(Self { bundle, runtime, threads, progress: preparation.progress })
    }

    pub(super) fn session(&self, engine: Variant) -> anyhow::Result<Box<dyn Session>> {
        let options = SessionOptions { threads: self.threads };
        Ok(self.runtime.one_session(&self.bundle, engine, options)?)
    }

    /// The engines of the bundle that the device runs, fp32 first.
    pub(super) fn engines(&self) -> Vec<Variant> {
        let device = self.runtime.device();
        self.bundle.manifest().models.keys().copied().filter(|engine| device.runs(*engine)).collect()
    }

    /// The minimum cosine that a text must reach: the requested one, else the bundle's own threshold.
    pub(super) fn threshold(&self, requested: Option<f64>, engine: Variant) -> f64 {
        let recorded = || Some(self.bundle.manifest().models.get(&engine)?.accuracy?.threshold);
        requested.or_else(recorded).unwrap_or(DEFAULT_THRESHOLD)
    }

    /// The reference set and its name: the one in the file, else the bundle's, else the built-in one.
    pub(super) fn reference(&self, file: Option<&Path>) -> anyhow::Result<(ReferenceSet, ReferenceSummary)> {
        let manifest = self.bundle.manifest();
        let (set, origin) = if let Some(path) = file {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            (ReferenceSet::read(path)?, name)
        } else if manifest.files.contains_key(REFERENCE_FILE) {
            (ReferenceSet::read(&self.bundle.verify(REFERENCE_FILE)?)?, "the bundle's reference set".to_owned())
        } else if let Some(bytes) = built_in(manifest.source.weights_sha256.as_str()) {
            let origin = "the built-in reference set";
            (ReferenceSet::parse(bytes, Path::new(origin))?, origin.to_owned())
        } else {
            anyhow::bail!(
                "no reference set for {} (weights {}); create one from PyTorch with reference/make_reference.py and \
                 pass it with --reference",
                manifest.name,
                manifest.source.weights_sha256
            )
        };
        check_dimension(&set, manifest.dimension as usize)?;
        let summary = ReferenceSummary { origin, texts: set.texts.len(), provenance: set.provenance.clone() };
        Ok((set, summary))
    }

    pub(super) fn tokenizer(&self, max_tokens: Option<u32>) -> anyhow::Result<Tokenizer> {
        Ok(Tokenizer::load(&self.bundle, max_tokens)?)
    }

    /// The prompt of the model's own choice, which texts have in PyTorch as well.
    pub(super) fn default_prompt(&self, tokenizer: &Tokenizer) -> anyhow::Result<Option<Arc<Prompt>>> {
        let prompts = Prompts::load(self.bundle.manifest(), tokenizer)?;
        Ok(prompts.choose(&PromptChoice::Default)?.cloned())
    }

    /// Compares engines with a reference set.
    pub(super) fn validate(
        &self,
        engines: &[Variant],
        reference: &ReferenceSet,
        min_cosine: Option<f64>,
    ) -> anyhow::Result<Vec<Comparison>> {
        let tokenizer = self.tokenizer(Some(reference.max_tokens))?;
        let prompt = self.default_prompt(&tokenizer)?;
        let texts = ReferenceTexts::of(reference, &tokenizer, prompt.as_deref())?;
        let compare = |&engine: &Variant| {
            let mut session = self.session(engine)?;
            let threshold = self.threshold(min_cosine, engine);
            let name = engine.to_string();
            Ok(validate(session.as_mut(), &name, &texts, threshold, Batches::Compared, &self.progress)?)
        };
        engines.iter().map(compare).collect()
    }

    /// Times all engines of the bundle.
    pub(super) fn time(&self, timed: &Timed) -> anyhow::Result<Vec<Measurement>> {
        let tokenizer = self.tokenizer(None)?;
        let numbers = |counts: &[NonZeroUsize]| -> Vec<usize> { counts.iter().map(|count| count.get()).collect() };
        let lengths =
            if timed.lengths.is_empty() { default_lengths(tokenizer.max_tokens()) } else { numbers(&timed.lengths) };
        let runs = timed.runs.map_or(DEFAULT_RUNS, NonZeroUsize::get);
        // A number of runs that the user chose is not reduced.
        let max_time = if timed.runs.is_none() { Some(DEFAULT_MAX_TIME) } else { None };
        let plan = Plan { lengths, batches: numbers(&timed.batches), runs, max_time };
        let open = |engine: Variant| anyhow::Ok(Engine { name: engine.to_string(), session: self.session(engine)? });
        let mut engines = self.engines().into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(benchmark(&mut engines, &tokenizer, &plan, &self.progress)?)
    }

    /// A report without figures.
    pub(super) fn report(&self) -> Report {
        Report::of(self.bundle.manifest(), Machine::of(&self.runtime))
    }

    /// Reads the latencies of other programs. Call it before timing anything, so that errors surface immediately.
    pub(super) fn baseline(&self, timed: &Timed) -> anyhow::Result<Option<Baseline>> {
        let Some(path) = &timed.baseline else { return Ok(None) };
        let baseline = Baseline::read(path)?;
        baseline.check_model(&self.bundle.manifest().name)?;
        Ok(Some(baseline))
    }
}
