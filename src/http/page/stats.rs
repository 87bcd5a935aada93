//! What the page shows, as JSON. It contains no texts.

use serde::Serialize;
use utoipa::ToSchema;

use super::Page;
use super::history::{CallErrors, Latencies, SAMPLE, Sample, rounded};
use crate::embed::Embedder;
use crate::http::api::Api;
use embedd_model::bundle::ReferenceKind;

/// The server, its model, and what it is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PageStats {
    server: ServerFacts,
    /// Null while the first model is being loaded.
    model: Option<ModelFacts>,
    now: Present,
    /// Seconds between two samples.
    sample_seconds: u64,
    /// From the oldest to the newest.
    samples: Vec<Sample>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ServerFacts {
    /// The version of embedd.
    version: &'static str,
    /// `ready`, or why the server accepts no requests.
    phase: String,
    uptime_seconds: f64,
    grpc_port: u16,
    grpc_tls: bool,
    /// Whether the REST API of text-embeddings-inference is served.
    tei: bool,
}

/// The model that is served.
#[derive(Debug, Serialize, ToSchema)]
struct ModelFacts {
    name: String,
    /// SHA-256 of the weights from which the model was converted.
    revision: String,
    /// The fingerprint of the bundle.
    fingerprint: String,
    engine: String,
    /// `cpu`, or a GPU such as `cuda:0 (NVIDIA L4)`.
    device: String,
    instruction_set: String,
    quantization: String,
    /// Null if it was not measured.
    accuracy: Option<MeasuredAccuracy>,
    dimension: usize,
    pooling: String,
    /// Tokens per text; longer texts are truncated or rejected.
    max_tokens: usize,
    /// Bytes of one text.
    max_text_bytes: usize,
    /// Texts in one request of the HTTP port.
    max_texts: usize,
    /// The version of ONNX Runtime.
    onnxruntime_version: String,
}

/// Cosines between the embeddings of a reference set and those of the model, measured at conversion.
#[derive(Debug, Serialize, ToSchema)]
struct MeasuredAccuracy {
    /// `PyTorch` or `float32`.
    reference: &'static str,
    /// The number of texts in the reference set.
    texts: u32,
    min_cosine: f64,
    mean_cosine: f64,
    /// The minimum that every text must reach.
    threshold: f64,
}

/// The present.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Present {
    /// Texts waiting for a session, and their maximum.
    queue_texts: usize,
    queue_limit_texts: usize,
    sessions: usize,
    sessions_busy: usize,
    threads_per_session: usize,
    cache_entries: u64,
    cache_bytes: u64,
    cache_limit_bytes: u64,
    /// Texts found in the cache since the start.
    cache_hits: u64,
    /// Texts not found in the cache since the start.
    cache_misses: u64,
    /// Requests answered since the start.
    requests: u64,
    /// Texts embedded since the start.
    texts: u64,
    /// CallErrors since the start.
    errors: CallErrors,
    /// Over the last minute.
    latency: Option<Latencies>,
}

impl PageStats {
    pub(super) async fn collect(api: &Api, page: &Page) -> Self {
        let embedder = api.serving.model.get();
        let server = ServerFacts {
            version: env!("CARGO_PKG_VERSION"),
            phase: api.readiness.phase().to_string(),
            uptime_seconds: rounded(api.serving.stats.uptime().as_secs_f64()),
            grpc_port: page.grpc_port,
            grpc_tls: page.grpc_tls,
            tei: page.tei,
        };
        Self {
            server,
            model: embedder.as_ref().map(|embedder| ModelFacts::of(embedder, api)),
            now: Present::of(api, embedder.as_deref()).await,
            sample_seconds: SAMPLE.as_secs(),
            samples: page.history.samples(),
        }
    }
}

impl ModelFacts {
    fn of(embedder: &Embedder, api: &Api) -> Self {
        let model = embedder.model();
        let limits = api.limits(embedder);
        let accuracy = model.accuracy.map(|accuracy| MeasuredAccuracy {
            reference: match accuracy.reference {
                ReferenceKind::PyTorch => "PyTorch",
                ReferenceKind::Float32 => "float32",
            },
            texts: accuracy.texts,
            min_cosine: accuracy.min_cosine,
            mean_cosine: accuracy.mean_cosine,
            threshold: accuracy.threshold,
        });
        Self {
            name: model.names.main().to_owned(),
            revision: model.revision.clone(),
            fingerprint: model.fingerprint.clone(),
            engine: model.variant.to_string(),
            device: model.device(),
            instruction_set: model.instruction_set.clone(),
            quantization: model.quantization.clone(),
            accuracy,
            dimension: limits.dimension,
            pooling: model.pooling.to_string(),
            max_tokens: embedder.max_tokens(),
            max_text_bytes: limits.max_text_bytes,
            max_texts: limits.max_texts.get(),
            onnxruntime_version: model.runtime_version.clone(),
        }
    }
}

impl Present {
    async fn of(api: &Api, embedder: Option<&Embedder>) -> Self {
        let stats = &api.serving.stats;
        let requests = stats.requests();
        let counted = Self {
            requests: requests.requests,
            texts: requests.texts,
            errors: stats.errors().into(),
            latency: Some(Latencies::of(stats)),
            ..Self::default()
        };
        let Some(embedder) = embedder else { return counted };
        let queue = embedder.queue_stats();
        let sessions = embedder.session_stats();
        let cache = embedder.cache_stats().await;
        Self {
            queue_texts: queue.depth,
            queue_limit_texts: queue.capacity,
            sessions: sessions.total,
            sessions_busy: sessions.busy,
            threads_per_session: sessions.threads,
            cache_entries: cache.entries,
            cache_bytes: cache.bytes,
            cache_limit_bytes: cache.capacity_bytes,
            cache_hits: cache.hits,
            cache_misses: cache.misses,
            ..counted
        }
    }
}
