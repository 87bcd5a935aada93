//! Loads a bundle: from settings to a model that has answered its first request.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::self_check::{self, SelfCheck, SelfCheckError};
use super::sizes::{batch_limits, cpus, pool_size, queue_limits};
use crate::batch::{Batcher, Gate};
use crate::cache::EmbeddingCache;
use crate::caller::Caller;
use crate::config::{EngineChoice, Settings};
use crate::embed::{EmbedError, Embedder, ModelInfo};
use crate::encoding::Ranges;
use crate::model_names::ModelNames;
use crate::model_slot::Served;
use crate::prepare::PrepareError;
use crate::request::{EmbedOptions, EmbedRequest, Limits, Violations};
use crate::stats::BatchCounters;
use embedd_kernels::CpuInstructions;
use embedd_model::bundle::{AccuracyRecord, Bundle, Manifest, Variant};
use embedd_model::engine::{LoadError, OnnxRuntime, Session, SessionOptions};
use embedd_model::reference::ReferenceSet;
use embedd_model::tokenize::{TokenizeError, Tokenizer, TokenizerError};
use embedd_model::{PromptChoice, Prompts, UnknownPrompt};

/// Sent through every session, so that no request pays for a session's first run.
const WARM_UP_TEXT: &str = "The first text through a new session takes longer than the others.";

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadModelError {
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Engine(#[from] LoadError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error("a prompt of the model {0}")]
    Prompt(#[from] TokenizeError),
    #[error("{0} (--default-prompt)")]
    DefaultPrompt(#[from] UnknownPrompt),
    #[error("{0} has no engine that can be served; convert the model again with `embedd convert --force`")]
    NoEngine(PathBuf),
    /// The engine failed the accuracy gate during conversion.
    #[error(
        "the {engine} engine ({recipe}) of {bundle} failed the accuracy gate: its minimum cosine is {:.5}, below the \
         threshold {:.5}; convert the model with another recipe, serve with --engine fp32, or accept it with \
         --allow-inaccurate",
        accuracy.min_cosine, accuracy.threshold
    )]
    Inaccurate { bundle: PathBuf, engine: Variant, recipe: String, accuracy: AccuracyRecord },
    #[error(
        "the accuracy of the {engine} model in {bundle} was never measured with {instruction_set}; convert the model \
         again with `embedd convert --force`, or accept it with --allow-inaccurate"
    )]
    Unproven { bundle: PathBuf, engine: Variant, instruction_set: String },
    #[error("self-check: {0}")]
    SelfCheck(#[from] SelfCheckError),
    #[error("cannot start the thread of a session: {0}")]
    Thread(#[from] std::io::Error),
    #[error("the model failed its first request: {0}")]
    WarmUp(#[from] EmbedError),
    /// The thread that loads the model panicked.
    #[error("loading the model was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// The state that successive models share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) counters: BatchCounters,
    pub(super) cache: Option<EmbeddingCache>,
}

/// Loads the model of a bundle and runs a first request through every session.
pub(super) fn load(
    settings: &Settings,
    bundle: &Bundle,
    runtime: &OnnxRuntime,
    shared: &Shared,
) -> Result<Served, LoadModelError> {
    let started = Instant::now();
    let runtime = &runtime.for_bundle(bundle);
    let engine = choose_engine(settings, bundle, runtime)?;
    let served = assemble(settings, bundle, runtime, engine, shared)?;
    tokio::runtime::Handle::current().block_on(warm_up(&served.embedder))?;
    let model = served.embedder.model();
    tracing::info!(
        model = model.names.main(),
        bundle = %bundle.folder().display(),
        fingerprint = bundle.fingerprint().as_str(),
        device = model.device(),
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

/// Chooses the bundle's engine to serve with.
fn choose_engine(settings: &Settings, bundle: &Bundle, runtime: &OnnxRuntime) -> Result<Variant, LoadModelError> {
    let candidates = match settings.engine {
        EngineChoice::Fp32 => vec![Variant::Fp32],
        EngineChoice::Portable => vec![Variant::Portable],
        EngineChoice::Native => vec![Variant::Native],
        EngineChoice::Fp16 => vec![Variant::Fp16],
        EngineChoice::Auto => runtime.fastest_first(),
    };
    let mut failure = None;
    for engine in candidates {
        let record = match bundle.model(engine) {
            Ok(record) => record,
            Err(missing) => {
                failure.get_or_insert(LoadError::from(missing).into());
                continue;
            }
        };
        if settings.allow_inaccurate || runtime.is_accurate(engine, record) {
            return Ok(engine);
        }
        let Some(accuracy) = runtime.accuracy(engine, record) else {
            let instruction_set = runtime.instruction_set(engine);
            tracing::warn!(%engine, instruction_set, "skipping an engine whose accuracy was never measured");
            let bundle = bundle.folder().to_owned();
            failure.get_or_insert(LoadModelError::Unproven { bundle, engine, instruction_set });
            continue;
        };
        tracing::warn!(%engine, min_cosine = accuracy.min_cosine, "skipping an engine that failed the accuracy gate");
        failure = Some(LoadModelError::Inaccurate {
            bundle: bundle.folder().to_owned(),
            engine,
            recipe: record.quantization.clone(),
            accuracy,
        });
    }
    Err(failure.unwrap_or_else(|| LoadModelError::NoEngine(bundle.folder().to_owned())))
}

fn assemble(
    settings: &Settings,
    bundle: &Bundle,
    runtime: &OnnxRuntime,
    engine: Variant,
    shared: &Shared,
) -> Result<Served, LoadModelError> {
    let manifest = bundle.manifest();
    let record = bundle.model(engine).map_err(LoadError::from)?;
    let (count, threads) = pool_size(settings, cpus());
    let Parts { mut tokenizer, reference, mut sessions } = Parts::load(bundle, settings.max_tokens, || {
        runtime.sessions(bundle, engine, count, SessionOptions { threads })
    })?;
    let instruction_set = runtime.instruction_set(engine);
    if let Some(session) = sessions.first_mut() {
        self_check::vocabulary(&tokenizer, bundle, session.as_mut())?;
    }
    let own_prompts = Prompts::load(manifest, &tokenizer)?;
    let own_default_prompt = own_prompts.default_name().map_or(PromptChoice::None, PromptChoice::named);
    if let Some(reference) = &reference {
        let prompt = own_prompts.choose(&own_default_prompt)?;
        let check = SelfCheck::of(reference, &tokenizer, prompt.map(AsRef::as_ref), bundle, engine, &instruction_set)?;
        run_self_check(&check, &mut sessions, settings.allow_inaccurate)?;
    } else {
        tracing::warn!("skipping the self-check: the bundle has no reference set");
    }
    // After the self-check, whose texts contain some of them.
    tokenizer.set_special_tokens(settings.special_tokens);
    tokenizer.set_accepted_ids(settings.token_ids);
    let prompts = prompts(settings, manifest, &tokenizer)?;
    let batch = batch_limits(settings, engine, CpuInstructions::widest());
    let batcher = Batcher::start(sessions, batch, queue_limits(settings, cpus()), shared.counters.clone())?;
    // As many as there are CPUs: more would only wait for each other, and take memory.
    let gate = Gate::new(cpus().get(), queue_limits(settings, cpus()));
    let model = ModelInfo {
        names: settings.model_name.clone().unwrap_or_else(|| ModelNames::of(&manifest.name)),
        fingerprint: bundle.fingerprint().to_string(),
        revision: manifest.source.weights_sha256.to_string(),
        variant: engine,
        gpu: runtime.gpu().cloned(),
        instruction_set,
        quantization: record.quantization.clone(),
        accuracy: runtime.accuracy(engine, record),
        pooling: manifest.pooling.clone(),
        default_truncation: settings.truncation,
        prompts,
        own_default_prompt,
        ranges: reference.clone().map(|reference| Arc::new(Ranges::of(reference))),
        runtime_version: runtime.version().to_owned(),
        sessions: count.get(),
        threads: threads.get(),
    };
    let limits = Limits {
        max_texts: settings.max_texts,
        max_text_bytes: settings.max_text_bytes.get(),
        truncates_any_size: tokenizer.stops_early(),
        dimension: manifest.dimension as usize,
    };
    Ok(Served {
        embedder: Arc::new(Embedder::new(tokenizer, batcher, gate, shared.cache.clone(), model, limits)),
        folder: bundle.folder().to_owned(),
        fingerprint: bundle.fingerprint().clone(),
        reference,
    })
}

/// The prompts, with the default of the settings.
fn prompts(settings: &Settings, manifest: &Manifest, tokenizer: &Tokenizer) -> Result<Prompts, LoadModelError> {
    for (name, _) in manifest.prompts.iter().filter(|(_, text)| tokenizer.differs_from_pytorch(text)) {
        tracing::warn!(
            name,
            "the prompt contains the name of a special token, which is plain text to this server (--special-tokens); \
             embeddings with it differ from PyTorch's"
        );
    }
    Ok(Prompts::load(manifest, tokenizer)?.with_default(&settings.default_prompt)?)
}

/// The parts that take time to load.
struct Parts {
    tokenizer: Tokenizer,
    reference: Option<Arc<ReferenceSet>>,
    sessions: Vec<Box<dyn Session>>,
}

impl Parts {
    /// Loads all parts concurrently.
    fn load(
        bundle: &Bundle,
        max_tokens: Option<u32>,
        sessions: impl FnOnce() -> Result<Vec<Box<dyn Session>>, LoadError>,
    ) -> Result<Self, LoadModelError> {
        let started = Instant::now();
        std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| {
                let tokenizer = Tokenizer::load(bundle, max_tokens);
                tracing::debug!(elapsed = ?started.elapsed(), "tokenizer loaded");
                tokenizer
            });
            let reference = scope.spawn(|| self_check::reference(bundle));
            let sessions = sessions();
            tracing::debug!(elapsed = ?started.elapsed(), "sessions loaded");
            Ok(Self { tokenizer: join(tokenizer)?, reference: join(reference)?.map(Arc::new), sessions: sessions? })
        })
    }
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}

/// With `allow_inaccurate`, a cosine below the threshold is only logged.
fn run_self_check(
    check: &SelfCheck,
    sessions: &mut [Box<dyn Session>],
    allow_inaccurate: bool,
) -> Result<(), LoadModelError> {
    let started = Instant::now();
    match check.run(sessions) {
        Ok(_) if check.len() == 0 => tracing::warn!("skipping the self-check: no reference text is short enough"),
        Ok(min_cosine) => {
            tracing::info!(texts = check.len(), min_cosine, elapsed = ?started.elapsed(), "self-check passed");
        }
        Err(error @ SelfCheckError::Cosine { .. }) if allow_inaccurate => tracing::warn!("self-check: {error}"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Sends one text per session. A session may miss its text if its thread is slow to start, which is harmless.
async fn warm_up(embedder: &Embedder) -> Result<(), EmbedError> {
    let texts = vec![WARM_UP_TEXT.to_owned()];
    let limits = embedder.limits();
    let mut violations = Violations::default();
    let options = EmbedOptions { skip_cache: true, ..EmbedOptions::default() };
    let prompts = &embedder.model().prompts;
    let Some(request) = EmbedRequest::check(texts, options, limits, prompts, &mut violations) else {
        return Ok(());
    };
    for _ in 0..embedder.model().sessions {
        embedder.embed(&request, &Caller::server()).await?;
    }
    Ok(())
}
