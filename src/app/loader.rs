//! Loads bundles for as long as the server runs: the first one at start, others when it is told to.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::load::{self, LoadModelError, Shared};
use super::self_check::SelfCheckError;
use crate::admin::{LoadFailure, ModelLoader};
use crate::cache::EmbeddingCache;
use crate::config::Settings;
use crate::model_slot::Served;
use crate::prepare::{Preparation, PrepareError};
use crate::stats::Stats;
use embedd_kernels::give_back_freed_memory;
use embedd_model::bundle::{Bundle, BundleError};
use embedd_model::engine::{LoadError, OnnxRuntime};
use embedd_model::tokenize::TokenizerError;

/// The settings, and what a process loads once.
#[derive(Debug)]
pub(super) struct Loader {
    settings: Settings,
    shared: Shared,
    /// Opened with the first model.
    runtime: Mutex<Option<OnnxRuntime>>,
}

impl Loader {
    pub(super) fn new(settings: Settings, stats: &Stats) -> Self {
        let cache = settings.cache_bytes.map(|bytes| EmbeddingCache::new(bytes.get() as u64, settings.cache_ttl));
        let shared = Shared { counters: stats.batches().clone(), cache };
        Self { settings, shared, runtime: Mutex::default() }
    }

    /// The model that the settings name; fetches and converts what is missing.
    pub(super) fn first(&self) -> Result<Served, LoadModelError> {
        let runtime = self.runtime()?;
        let bundle = load::bundle(&self.settings, &runtime)?;
        self.load(&bundle, &runtime)
    }

    fn open(&self, folder: &Path) -> Result<Served, LoadModelError> {
        let bundle = Preparation::open(folder)?;
        self.load(&bundle, &self.runtime()?)
    }

    fn load(&self, bundle: &Bundle, runtime: &OnnxRuntime) -> Result<Served, LoadModelError> {
        let served = load::load(&self.settings, bundle, runtime, &self.shared)?;
        give_back_freed_memory();
        Ok(served)
    }

    fn runtime(&self) -> Result<OnnxRuntime, LoadModelError> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.clone());
        }
        Ok(runtime.insert(load::runtime(&self.settings)?).clone())
    }
}

impl ModelLoader for Loader {
    fn load(&self, folder: &Path) -> Result<Served, LoadFailure> {
        if !folder.is_dir() {
            return Err(LoadFailure::NoSuchFolder(folder.to_owned()));
        }
        self.open(folder).map_err(|error| failure(&error))
    }

    fn allows_inaccurate(&self) -> bool {
        self.settings.allow_inaccurate
    }
}

/// Whether it is the bundle that is wrong, or something else.
fn failure(error: &LoadModelError) -> LoadFailure {
    match error {
        LoadModelError::Prepare(PrepareError::Bundle(BundleError::NotABundle { .. })) => {
            LoadFailure::NotABundle(error.to_string())
        }
        LoadModelError::Prepare(PrepareError::Bundle(_))
        | LoadModelError::Engine(LoadError::Bundle(_) | LoadError::Weights { .. } | LoadError::Model { .. })
        | LoadModelError::Tokenizer(TokenizerError::Bundle(_) | TokenizerError::Invalid { .. })
        | LoadModelError::Tokenizer(TokenizerError::MaxTokens { .. })
        | LoadModelError::NoModel(_)
        | LoadModelError::Inaccurate { .. }
        | LoadModelError::SelfCheck(
            SelfCheckError::Bundle(_)
            | SelfCheckError::Reference(_)
            | SelfCheckError::Tokenize { .. }
            | SelfCheckError::Tokens { .. }
            | SelfCheckError::Infer(_)
            | SelfCheckError::Cosine { .. },
        ) => LoadFailure::Unfit(error.to_string()),
        LoadModelError::Home(_)
        | LoadModelError::Fetch(_)
        | LoadModelError::Prepare(PrepareError::Fetch(_) | PrepareError::Convert(_))
        | LoadModelError::Engine(LoadError::Library { .. } | LoadError::InstructionSet { .. })
        | LoadModelError::Thread(_)
        | LoadModelError::WarmUp(_)
        | LoadModelError::Cut(_) => LoadFailure::Failed(error.to_string()),
    }
}
