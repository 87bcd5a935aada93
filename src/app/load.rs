//! From settings to a model that has answered.

use std::num::NonZeroUsize;
use std::time::Instant;

use super::cpus;
use crate::batch::{BatchLimits, Batcher};
use crate::bundle::{Bundle, Variant};
use crate::config::{EngineChoice, Settings};
use crate::embed::{EmbedError, Embedder, ModelInfo};
use crate::engine::{LoadError, OnnxRuntime, SessionOptions, instruction_set};
use crate::fetch::{FetchError, Fetcher};
use crate::home::{Home, NoHome};
use crate::prepare::{Preparation, PrepareError};
use crate::progress::Progress;
use crate::request::{EmbedRequest, Limits, Violations};
use crate::tokenize::{Tokenizer, TokenizerError};

/// Threads of one session at most, where the user does not say: beyond, a short text gains little.
const MAX_DEFAULT_THREADS: usize = 4;
/// Run through every session's graph before the first request pays for its first run.
const WARM_UP_TEXT: &str = "The first text through a new session takes longer than the others.";

/// Why there is no model to serve.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is the error of one step")]
pub enum LoadModelError {
    #[error(transparent)]
    Home(#[from] NoHome),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Engine(#[from] LoadError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The engine that was asked for does not exist yet.
    #[error("--engine {0} is not built yet; `fp32` and `auto` are")]
    NoSuchEngine(EngineChoice),
    #[error("a session's thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    #[error("the model does not answer: {0}")]
    WarmUp(#[from] EmbedError),
    #[error("loading was cut short: {0}")]
    Cut(#[from] tokio::task::JoinError),
}

/// Fetches and converts what is missing, loads it, and lets every session answer once.
pub(super) fn embedder(settings: &Settings) -> Result<Embedder, LoadModelError> {
    let started = Instant::now();
    let home = Home::find(settings.home.clone())?;
    let progress = Progress::auto_in_log();
    let fetcher = Fetcher::from_env(home.clone(), progress.clone())
        .offline(settings.offline)
        .runtime_library(settings.onnxruntime.clone());
    let variant = variant(settings.engine)?;
    let runtime = OnnxRuntime::load(&fetcher.runtime()?)?;
    let bundle = match &settings.bundle {
        Some(folder) => Preparation::open(folder)?,
        None => Preparation { home: &home, fetcher: &fetcher, progress: &progress }.bundle(&settings.model)?,
    };
    let embedder = assemble(settings, &bundle, &runtime, variant)?;
    tokio::runtime::Handle::current().block_on(warm_up(&embedder))?;
    let model = embedder.model();
    tracing::info!(
        model = model.name,
        bundle = %bundle.folder().display(),
        fingerprint = bundle.fingerprint().as_str(),
        engine = %model.variant,
        instruction_set = model.instruction_set,
        sessions = model.sessions,
        threads = model.threads,
        max_tokens = embedder.max_tokens(),
        elapsed = ?started.elapsed(),
        "model loaded"
    );
    Ok(embedder)
}

fn variant(engine: EngineChoice) -> Result<Variant, LoadModelError> {
    match engine {
        EngineChoice::Auto | EngineChoice::Fp32 => Ok(Variant::Fp32),
        EngineChoice::Native | EngineChoice::Portable => Err(LoadModelError::NoSuchEngine(engine)),
    }
}

fn assemble(
    settings: &Settings,
    bundle: &Bundle,
    runtime: &OnnxRuntime,
    variant: Variant,
) -> Result<Embedder, LoadModelError> {
    let manifest = bundle.manifest();
    let tokenizer = Tokenizer::load(bundle, settings.max_tokens)?;
    let (count, threads) = pool_size(settings, cpus());
    let sessions = runtime.sessions(bundle, variant, count, SessionOptions { threads })?;
    let batcher = Batcher::start(sessions, BatchLimits { tokens: settings.batch_tokens }, settings.queue_texts)?;
    let model = ModelInfo {
        name: manifest.name.clone(),
        revision: manifest.source.weights_sha256.to_string(),
        variant,
        instruction_set: instruction_set().to_owned(),
        quantization: bundle.model(variant).map_err(LoadError::from)?.quantization.clone(),
        pooling: manifest.pooling,
        default_truncation: settings.truncation,
        runtime_version: runtime.version().to_owned(),
        sessions: count.get(),
        threads: threads.get(),
    };
    let limits = Limits {
        max_texts: settings.max_texts,
        max_text_bytes: settings.max_text_bytes.get(),
        dimension: manifest.dimension as usize,
    };
    Ok(Embedder::new(tokenizer, batcher, model, limits))
}

/// Sessions, and threads of each: together as many as there are CPUs, unless the user says otherwise.
fn pool_size(settings: &Settings, cpus: NonZeroUsize) -> (NonZeroUsize, NonZeroUsize) {
    let share = |of: NonZeroUsize| NonZeroUsize::new(cpus.get() / of).unwrap_or(NonZeroUsize::MIN);
    match (settings.sessions, settings.threads) {
        (Some(sessions), Some(threads)) => (sessions, threads),
        (Some(sessions), None) => (sessions, share(sessions)),
        (None, Some(threads)) => (share(threads), threads),
        (None, None) => {
            let most = NonZeroUsize::new(MAX_DEFAULT_THREADS).unwrap_or(NonZeroUsize::MIN);
            let threads = cpus.min(most);
            (share(threads), threads)
        }
    }
}

/// As many texts at once as there are sessions. A session that is slow to wake may be passed over; it is loaded all
/// the same.
async fn warm_up(embedder: &Embedder) -> Result<(), EmbedError> {
    let texts = vec![WARM_UP_TEXT.to_owned()];
    let limits = embedder.limits();
    let mut violations = Violations::default();
    let truncation = embedder.model().default_truncation;
    let Some(request) = EmbedRequest::check(texts, true, truncation, None, limits, &mut violations) else {
        return Ok(());
    };
    for _ in 0..embedder.model().sessions {
        embedder.embed(&request).await?;
    }
    Ok(())
}
