//! From settings to a model that has answered.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::cpus;
use super::self_check::{self, SelfCheck, SelfCheckError};
use crate::batch::{BatchLimits, Batcher, QueueLimits};
use crate::cache::EmbeddingCache;
use crate::config::{EngineChoice, Settings};
use crate::embed::{EmbedError, Embedder, ModelInfo};
use crate::model_slot::Served;
use crate::prepare::{Preparation, PrepareError};
use crate::request::{EmbedOptions, EmbedRequest, Limits, Violations};
use crate::stats::BatchCounters;
use embedd_common::progress::Progress;
use embedd_fetch::home::{Home, NoHome};
use embedd_fetch::{FetchError, Fetcher};
use embedd_kernels::CpuInstructions;
use embedd_kernels::InstructionSet;
use embedd_model::bundle::{AccuracyRecord, Bundle, Variant};
use embedd_model::engine::{LoadError, OnnxRuntime, Session, SessionOptions, fastest_first};
use embedd_model::reference::ReferenceSet;
use embedd_model::threads::default_threads;
use embedd_model::tokenize::{Tokenizer, TokenizerError};

/// Requests that may be due before a new one for each CPU, where the user does not say: the setting's help says why.
const QUEUED_PER_CPU: NonZeroUsize = NonZeroUsize::new(40).expect("not zero");
/// Run through every session's graph before the first request pays for its first run.
const WARM_UP_TEXT: &str = "The first text through a new session takes longer than the others.";

/// Why there is no model to serve.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is the error of one step")]
pub(crate) enum LoadModelError {
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
    /// The bundle is empty.
    #[error("{0} has no model that can be served; convert it again with `embedd convert --force`")]
    NoModel(PathBuf),
    /// The model failed the gate when it was converted.
    #[error(
        "the {variant} model ({recipe}) of {bundle} failed the accuracy gate: least cosine {:.5}, and the gate is \
         {:.5}; convert it by another recipe, serve --engine fp32, or say --allow-inaccurate",
        accuracy.min_cosine, accuracy.threshold
    )]
    Inaccurate { bundle: PathBuf, variant: Variant, recipe: String, accuracy: AccuracyRecord },
    #[error("self-check: {0}")]
    SelfCheck(#[from] SelfCheckError),
    #[error("a session's thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    #[error("the model does not answer: {0}")]
    WarmUp(#[from] EmbedError),
    #[error("loading was cut short: {0}")]
    Cut(#[from] tokio::task::JoinError),
}

/// Fetches ONNX Runtime and opens it, which a process can do once.
pub(super) fn runtime(settings: &Settings) -> Result<OnnxRuntime, LoadModelError> {
    let started = Instant::now();
    let (_, fetcher, _) = fetching(settings)?;
    let runtime = OnnxRuntime::load(&fetcher.runtime()?)?.with_instruction_set(settings.instruction_set)?;
    tracing::debug!(elapsed = ?started.elapsed(), "ONNX Runtime loaded");
    Ok(runtime)
}

/// The bundle that the settings name; fetches and converts what is missing.
pub(super) fn bundle(settings: &Settings, runtime: &OnnxRuntime) -> Result<Bundle, LoadModelError> {
    let (home, fetcher, progress) = fetching(settings)?;
    Ok(match &settings.bundle {
        Some(folder) => Preparation::open(folder)?,
        None => Preparation { home: &home, fetcher: &fetcher, runtime, progress: &progress }.bundle(&settings.model)?,
    })
}

fn fetching(settings: &Settings) -> Result<(Home, Fetcher, Progress), LoadModelError> {
    let (home, progress) = (Home::find(settings.home.clone())?, Progress::auto_in_log());
    let fetcher = Fetcher::from_env(home.clone(), progress.clone())
        .offline(settings.offline)
        .runtime_library(settings.onnxruntime.clone());
    Ok((home, fetcher, progress))
}

/// What one model after the other is served with.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) counters: BatchCounters,
    pub(super) cache: Option<EmbeddingCache>,
}

/// Loads a bundle's model, and lets every session answer once.
pub(super) fn load(
    settings: &Settings,
    bundle: &Bundle,
    runtime: &OnnxRuntime,
    shared: &Shared,
) -> Result<Served, LoadModelError> {
    let started = Instant::now();
    let variant = choose_variant(settings, bundle, runtime.kernels().instruction_set())?;
    let served = assemble(settings, bundle, runtime, variant, shared)?;
    tokio::runtime::Handle::current().block_on(warm_up(&served.embedder))?;
    let model = served.embedder.model();
    tracing::info!(
        model = model.name,
        bundle = %bundle.folder().display(),
        fingerprint = bundle.fingerprint().as_str(),
        engine = %model.variant,
        instruction_set = model.instruction_set,
        sessions = model.sessions,
        threads = model.threads,
        max_tokens = served.embedder.max_tokens(),
        elapsed = ?started.elapsed(),
        "model loaded"
    );
    Ok(served)
}

/// The model of the bundle that serves.
fn choose_variant(settings: &Settings, bundle: &Bundle, kernels: InstructionSet) -> Result<Variant, LoadModelError> {
    let candidates = match settings.engine {
        EngineChoice::Fp32 => vec![Variant::Fp32],
        EngineChoice::Portable => vec![Variant::Portable],
        EngineChoice::Native => vec![Variant::Native],
        EngineChoice::Auto => fastest_first(kernels, CpuInstructions::widest()),
    };
    let mut failure = None;
    for variant in candidates {
        let record = match bundle.model(variant) {
            Ok(record) => record,
            Err(missing) => {
                failure.get_or_insert(LoadError::from(missing).into());
                continue;
            }
        };
        let inaccurate = record.accuracy.filter(|accuracy| !accuracy.passed() && !settings.allow_inaccurate);
        let Some(accuracy) = inaccurate else { return Ok(variant) };
        tracing::warn!(%variant, least_cosine = accuracy.min_cosine, "this model failed the accuracy gate");
        let (bundle, recipe) = (bundle.folder().to_owned(), record.quantization.clone());
        failure = Some(LoadModelError::Inaccurate { bundle, variant, recipe, accuracy });
    }
    Err(failure.unwrap_or_else(|| LoadModelError::NoModel(bundle.folder().to_owned())))
}

fn assemble(
    settings: &Settings,
    bundle: &Bundle,
    runtime: &OnnxRuntime,
    variant: Variant,
    shared: &Shared,
) -> Result<Served, LoadModelError> {
    let (manifest, record) = (bundle.manifest(), bundle.model(variant).map_err(LoadError::from)?);
    let (count, threads) = pool_size(settings, cpus());
    let Parts { tokenizer, reference, mut sessions } = Parts::load(bundle, settings.max_tokens, || {
        runtime.sessions(bundle, variant, count, SessionOptions { threads })
    })?;
    let instruction_set = match variant {
        Variant::Native => runtime.kernels().instruction_set().to_string(),
        Variant::Fp32 | Variant::Portable => CpuInstructions::widest().to_string(),
    };
    if let Some(reference) = &reference {
        let check = SelfCheck::of(reference, &tokenizer, bundle, variant, &instruction_set)?;
        run_self_check(&check, &mut sessions, settings.allow_inaccurate)?;
    } else {
        tracing::warn!("the bundle has no reference set: nothing tells whether its model is right on this machine");
    }
    let batch =
        BatchLimits { tokens: settings.batch_tokens, texts: settings.batch_texts, padded: variant != Variant::Native };
    let batcher = Batcher::start(sessions, batch, queue_limits(settings, cpus()), shared.counters.clone())?;
    let model = ModelInfo {
        name: manifest.name.clone(),
        fingerprint: bundle.fingerprint().to_string(),
        revision: manifest.source.weights_sha256.to_string(),
        variant,
        instruction_set,
        quantization: record.quantization.clone(),
        accuracy: record.accuracy,
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
    Ok(Served {
        embedder: Arc::new(Embedder::new(tokenizer, batcher, shared.cache.clone(), model, limits)),
        folder: bundle.folder().to_owned(),
        fingerprint: bundle.fingerprint().clone(),
        reference,
    })
}

/// What takes time to load.
struct Parts {
    tokenizer: Tokenizer,
    reference: Option<ReferenceSet>,
    sessions: Vec<Box<dyn Session>>,
}

impl Parts {
    /// All at once.
    fn load(
        bundle: &Bundle,
        max_tokens: Option<u32>,
        sessions: impl FnOnce() -> Result<Vec<Box<dyn Session>>, LoadError>,
    ) -> Result<Self, LoadModelError> {
        let started = Instant::now();
        std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| {
                let tokenizer = Tokenizer::load(bundle, max_tokens);
                tracing::debug!(elapsed = ?started.elapsed(), "tokeniser loaded");
                tokenizer
            });
            let reference = scope.spawn(|| self_check::reference(bundle));
            let sessions = sessions();
            tracing::debug!(elapsed = ?started.elapsed(), "sessions loaded");
            Ok(Self { tokenizer: join(tokenizer)?, reference: join(reference)?, sessions: sessions? })
        })
    }
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}

/// Who serves an inaccurate model knows that its texts fail.
fn run_self_check(
    check: &SelfCheck,
    sessions: &mut [Box<dyn Session>],
    allow_inaccurate: bool,
) -> Result<(), LoadModelError> {
    let started = Instant::now();
    match check.run(sessions) {
        Ok(_) if check.len() == 0 => tracing::warn!("no reference text is short enough for a self-check"),
        Ok(least) => {
            let (texts, elapsed) = (check.len(), started.elapsed());
            tracing::info!(texts, least_cosine = least, ?elapsed, "self-check passed");
        }
        Err(error @ SelfCheckError::Cosine { .. }) if allow_inaccurate => tracing::warn!("self-check: {error}"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Sessions, and threads of each: together as many as there are CPUs, unless the user says otherwise.
fn pool_size(settings: &Settings, cpus: NonZeroUsize) -> (NonZeroUsize, NonZeroUsize) {
    let share = |of: NonZeroUsize| NonZeroUsize::new(cpus.get() / of).unwrap_or(NonZeroUsize::MIN);
    match (settings.sessions, settings.threads) {
        (Some(sessions), Some(threads)) => (sessions, threads),
        (Some(sessions), None) => (sessions, share(sessions)),
        (None, Some(threads)) => (share(threads), threads),
        (None, None) => {
            let threads = default_threads(cpus);
            (share(threads), threads)
        }
    }
}

fn queue_limits(settings: &Settings, cpus: NonZeroUsize) -> QueueLimits {
    let ahead = settings.queue_requests.unwrap_or_else(|| cpus.saturating_mul(QUEUED_PER_CPU));
    QueueLimits { ahead, total: settings.queue_total_texts }
}

/// As many texts at once as there are sessions. A session that is slow to wake may be passed over; it is loaded all
/// the same.
async fn warm_up(embedder: &Embedder) -> Result<(), EmbedError> {
    let texts = vec![WARM_UP_TEXT.to_owned()];
    let limits = embedder.limits();
    let mut violations = Violations::default();
    let options = EmbedOptions { skip_cache: true, ..EmbedOptions::default() };
    let Some(request) = EmbedRequest::check(texts, options, limits, &mut violations) else {
        return Ok(());
    };
    for _ in 0..embedder.model().sessions {
        embedder.embed(&request).await?;
    }
    Ok(())
}
