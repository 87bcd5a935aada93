//! Loads bundles while the server runs: the first one at startup, others on request.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bundle_roots::BundleRoots;
use super::load::{self, LoadModelError, Shared};
use super::self_check::SelfCheckError;
use crate::admin::{LoadFailure, ModelLoader};
use crate::cache::EmbeddingCache;
use crate::config::Settings;
use crate::model_slot::Served;
use crate::prepare::{Preparation, PrepareError};
use crate::stats::Stats;
use embedd_common::progress::Progress;
use embedd_kernels::give_back_freed_memory;
use embedd_model::bundle::{Bundle, BundleError};
use embedd_model::engine::{LoadError, OnnxRuntime};
use embedd_model::tokenize::TokenizerError;

/// The settings, and the state that all loads share.
#[derive(Debug)]
pub(super) struct Loader {
    settings: Settings,
    shared: Shared,
    preparation: Preparation,
    roots: BundleRoots,
    /// Loaded with the first model; a process can load the library only once.
    runtime: Mutex<Option<OnnxRuntime>>,
}

impl Loader {
    pub(super) fn new(settings: Settings, stats: &Stats) -> Result<Self, LoadModelError> {
        let preparation = Preparation::new(&settings, Progress::auto_in_log())?;
        let cache = settings
            .cache_bytes
            .map(|bytes| EmbeddingCache::new(bytes.get() as u64, settings.cache_ttl, settings.cache_scope));
        let shared = Shared { counters: stats.batches().clone(), cache };
        let roots = BundleRoots::new(&settings, preparation.bundles_dir());
        Ok(Self { settings, shared, preparation, roots, runtime: Mutex::default() })
    }

    /// Loads the model that the settings name, fetching and converting it if necessary.
    pub(super) fn load_first(&self) -> Result<Served, LoadModelError> {
        let runtime = self.runtime()?;
        let bundle = self.preparation.bundle(&self.settings, || Ok(runtime.clone()))?;
        self.load(&bundle, &runtime)
    }

    fn open(&self, folder: &Path) -> Result<Served, LoadModelError> {
        let bundle = Bundle::open(folder).map_err(PrepareError::from)?;
        bundle.check_lengths().map_err(PrepareError::from)?;
        self.load(&bundle, &self.runtime()?)
    }

    fn load(&self, bundle: &Bundle, runtime: &OnnxRuntime) -> Result<Served, LoadModelError> {
        let served = load::load(&self.settings, bundle, runtime, &self.shared)?;
        give_back_freed_memory();
        Ok(served)
    }

    fn runtime(&self) -> Result<OnnxRuntime, LoadModelError> {
        let mut slot = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*slot {
            return Ok(runtime.clone());
        }
        let started = Instant::now();
        let runtime = self.preparation.runtime()?.with_instruction_set(self.settings.instruction_set)?;
        tracing::debug!(elapsed = ?started.elapsed(), "ONNX Runtime loaded");
        Ok(slot.insert(runtime).clone())
    }
}

impl ModelLoader for Loader {
    fn find(&self, folder: &Path) -> Result<PathBuf, LoadFailure> {
        self.roots.find(folder).ok_or(LoadFailure::NotFound)
    }

    fn load(&self, folder: &Path) -> Result<Served, LoadFailure> {
        if !folder.is_dir() {
            return Err(LoadFailure::NotFound);
        }
        self.open(folder).map_err(|error| failure(&error))
    }

    fn allows_inaccurate(&self) -> bool {
        self.settings.allow_inaccurate
    }

    fn time_limit(&self) -> Duration {
        self.settings.reload_timeout
    }
}

/// Distinguishes unusable bundles from other failures.
fn failure(error: &LoadModelError) -> LoadFailure {
    match error {
        LoadModelError::Prepare(PrepareError::Bundle(BundleError::NotABundle { .. })) => {
            LoadFailure::NotABundle(error.to_string())
        }
        LoadModelError::Prepare(PrepareError::Bundle(_))
        | LoadModelError::Engine(LoadError::Bundle(_) | LoadError::Weights { .. } | LoadError::Model { .. })
        | LoadModelError::Tokenizer(TokenizerError::Bundle(_) | TokenizerError::Invalid { .. })
        | LoadModelError::Tokenizer(TokenizerError::MaxTokens { .. })
        | LoadModelError::Prompt(_)
        | LoadModelError::DefaultPrompt(_)
        | LoadModelError::NoEngine(_)
        | LoadModelError::Inaccurate { .. }
        | LoadModelError::Unproven { .. }
        | LoadModelError::SelfCheck(
            SelfCheckError::Bundle(_)
            | SelfCheckError::Reference(_)
            | SelfCheckError::Tokenize { .. }
            | SelfCheckError::Tokens { .. }
            | SelfCheckError::Dimension { .. }
            | SelfCheckError::Vocabulary { .. }
            | SelfCheckError::Infer(_)
            | SelfCheckError::Cosine { .. },
        ) => LoadFailure::Unfit(error.to_string()),
        LoadModelError::Prepare(
            PrepareError::Home(_) | PrepareError::Fetch(_) | PrepareError::Runtime(_) | PrepareError::Convert(_),
        )
        | LoadModelError::Engine(
            LoadError::Library { .. }
            | LoadError::ChangedLibrary { .. }
            | LoadError::Device { .. }
            | LoadError::NotOnDevice { .. }
            | LoadError::InstructionSet { .. },
        )
        | LoadModelError::Thread(_)
        | LoadModelError::WarmUp(_)
        | LoadModelError::Interrupted(_) => LoadFailure::Failed(error.to_string()),
    }
}
