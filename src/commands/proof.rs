//! What `validate`, `bench` and `report` have in common: the bundle, its models, the reference set.

use std::num::NonZeroUsize;
use std::path::Path;

use super::fetching;
use crate::app;
use crate::cli::Timed;
use crate::config::Configuration;
use crate::prepare::Preparation;
use embedd_common::progress::Progress;
use embedd_convert::baseline::Baseline;
use embedd_convert::benchmark::{DEFAULT_RUNS, Engine, Measurement, Plan, benchmark, default_lengths};
use embedd_convert::machine::Machine;
use embedd_convert::report::{ReferenceSummary, Report};
use embedd_convert::validate::{Batches, Comparison, DEFAULT_THRESHOLD, ReferenceTexts, check_dimension, validate};
use embedd_model::bundle::{Bundle, REFERENCE_FILE, Variant};
use embedd_model::engine::{OnnxRuntime, Session, SessionOptions};
use embedd_model::reference::{ReferenceSet, built_in};
use embedd_model::threads::default_threads;
use embedd_model::tokenize::Tokenizer;

/// What is measured, and with what.
pub(super) struct Bench {
    pub(super) bundle: Bundle,
    pub(super) runtime: OnnxRuntime,
    pub(super) threads: NonZeroUsize,
    pub(super) progress: Progress,
}

impl Bench {
    /// The bundle that is named, or the model's in the cache folder, made if need be; and ONNX Runtime.
    pub(super) fn open(configuration: &Configuration) -> anyhow::Result<Self> {
        let settings = &configuration.settings;
        let (home, fetcher, progress) = fetching(configuration)?;
        let runtime = OnnxRuntime::load(&fetcher.runtime()?)?.with_instruction_set(settings.instruction_set)?;
        let bundle = match &settings.bundle {
            Some(folder) => Preparation::open(folder)?,
            None => Preparation { home: &home, fetcher: &fetcher, runtime: &runtime, progress: &progress }
                .bundle(&settings.model)?,
        };
        let threads = settings.threads.unwrap_or_else(|| default_threads(app::cpus()));
        Ok(Self { bundle, runtime, threads, progress })
    }

    pub(super) fn session(&self, variant: Variant) -> anyhow::Result<Box<dyn Session>> {
        let options = SessionOptions { threads: self.threads };
        Ok(self.runtime.one_session(&self.bundle, variant, options)?)
    }

    /// The bundle's models, float32 first.
    pub(super) fn variants(&self) -> Vec<Variant> {
        self.bundle.manifest().models.keys().copied().collect()
    }

    /// What a text must have: what the user says, else what the bundle was accepted with.
    pub(super) fn threshold(&self, asked: Option<f64>, variant: Variant) -> f64 {
        let recorded = || Some(self.bundle.manifest().models.get(&variant)?.accuracy?.threshold);
        asked.or_else(recorded).unwrap_or(DEFAULT_THRESHOLD)
    }

    /// The reference set that is named, else the bundle's, else the one that comes with embedd; and its name. One of
    /// another dimension is an error.
    pub(super) fn reference(&self, named: Option<&Path>) -> anyhow::Result<(ReferenceSet, ReferenceSummary)> {
        let manifest = self.bundle.manifest();
        let (set, origin) = if let Some(path) = named {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            (ReferenceSet::read(path)?, name)
        } else if manifest.files.contains_key(REFERENCE_FILE) {
            (ReferenceSet::read(&self.bundle.verify(REFERENCE_FILE)?)?, "the bundle's reference set".to_owned())
        } else if let Some(bytes) = built_in(manifest.source.weights_sha256.as_str()) {
            let origin = "the reference set that comes with embedd";
            (ReferenceSet::parse(bytes, Path::new(origin))?, origin.to_owned())
        } else {
            anyhow::bail!(
                "there is no reference set for {} (weights {}): reference/make_reference.py makes one from PyTorch, \
                 and --reference names it",
                manifest.name,
                manifest.source.weights_sha256
            )
        };
        check_dimension(&set, manifest.dimension as usize)?;
        let summary = ReferenceSummary { origin, texts: set.texts.len(), provenance: set.provenance.clone() };
        Ok((set, summary))
    }

    /// The bundle's tokeniser; `max_tokens` as the reference set has it.
    pub(super) fn tokenizer(&self, max_tokens: Option<u32>) -> anyhow::Result<Tokenizer> {
        Ok(Tokenizer::load(&self.bundle, max_tokens)?)
    }

    /// Compares models of the bundle with a reference set, by what a text must have where the user says.
    pub(super) fn validate(
        &self,
        variants: &[Variant],
        reference: &ReferenceSet,
        asked: Option<f64>,
    ) -> anyhow::Result<Vec<Comparison>> {
        let tokenizer = self.tokenizer(Some(reference.max_tokens))?;
        let texts = ReferenceTexts::of(reference, &tokenizer)?;
        let compare = |&variant: &Variant| {
            let (mut session, threshold) = (self.session(variant)?, self.threshold(asked, variant));
            let (name, batches) = (variant.to_string(), Batches::Compared);
            Ok(validate(session.as_mut(), &name, &texts, threshold, batches, &self.progress)?)
        };
        variants.iter().map(compare).collect()
    }

    /// Times every model of the bundle.
    pub(super) fn time(&self, timed: &Timed) -> anyhow::Result<Vec<Measurement>> {
        let tokenizer = self.tokenizer(None)?;
        let or = |given: &[usize], usual: Vec<usize>| if given.is_empty() { usual } else { given.to_vec() };
        let plan = Plan {
            lengths: or(&timed.lengths, default_lengths(tokenizer.max_tokens())),
            batches: or(&timed.batches, vec![1]),
            runs: timed.runs.unwrap_or(DEFAULT_RUNS),
        };
        let engine =
            |variant: Variant| anyhow::Ok(Engine { name: variant.to_string(), session: self.session(variant)? });
        let mut engines = self.variants().into_iter().map(engine).collect::<Result<Vec<_>, _>>()?;
        Ok(benchmark(&mut engines, &tokenizer, &plan, &self.progress)?)
    }

    /// A report without figures.
    pub(super) fn report(&self) -> Report {
        Report::of(self.bundle.manifest(), Machine::now(self.runtime.version()))
    }

    /// The figures of other programs, where the user names some; read before anything is timed, so that mistakes show
    /// at once.
    pub(super) fn baseline(&self, timed: &Timed) -> anyhow::Result<Option<Baseline>> {
        let baseline = match (&timed.baseline, &timed.baseline_command) {
            (Some(path), _) => Baseline::read(path)?,
            (None, Some(command)) => {
                self.progress.note("running the baseline command");
                Baseline::run(command)?
            }
            (None, None) => return Ok(None),
        };
        baseline.check_model(&self.bundle.manifest().name)?;
        Ok(Some(baseline))
    }
}
