//! Prometheus metrics, which `docs/OPERATING.md` lists.
//!
//! They are gathered for each scrape, so that no metric outlives what it describes, such as a model that is no longer
//! served.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::Mutex;

use crate::embed::{Embedder, ModelInfo};
use crate::logging;
use crate::model_slot::ModelSlot;
use crate::readiness::{Phase, Readiness};
use crate::stats::Stats;
use embedd_common::process::{self, ProcessStats};
use embedd_model::engine::Gpu;

mod format;

pub(crate) use format::Format;

/// The sources of the metrics; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub stats: Stats,
    pub model: ModelSlot,
    pub readiness: Readiness,
    one_at_a_time: Arc<Mutex<()>>,
}

impl Metrics {
    pub(crate) fn new(stats: Stats, model: ModelSlot, readiness: Readiness) -> Self {
        Self { stats, model, readiness, one_at_a_time: Arc::default() }
    }

    /// The current values of all metrics.
    ///
    /// # Errors
    /// Those of the encoder; none is known.
    pub(crate) async fn text(&self, format: Format) -> Result<String, fmt::Error> {
        // However many clients read metrics, which takes about a millisecond, they keep only one CPU busy.
        let _turn = self.one_at_a_time.lock().await;
        let mut registry = Registry::default();
        let model = self.model.get();
        calls(&mut registry, &self.stats);
        stages(&mut registry, &self.stats);
        if let Some(embedder) = &model {
            pool(&mut registry, embedder);
            cache(&mut registry, embedder).await;
        }
        let ready = self.readiness.phase() == Phase::Ready;
        registry.register("embedd_model_ready", "1 while health reports SERVING", gauge(u64::from(ready)));
        let info = model.as_ref().map(|embedder| embedder.model());
        build(&mut registry, info);
        info.into_iter().for_each(|info| describe(&mut registry, info));
        let help = "Log lines that were suppressed or dropped";
        registry.register("embedd_log_lines_lost", help, counter(logging::lost_lines()));
        process::stats().iter().for_each(|stats| system(&mut registry, stats));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(format.of(text))
    }
}

fn calls(registry: &mut Registry, stats: &Stats) {
    let families = stats.families();
    let help = "gRPC calls started";
    registry.register("grpc_server_call_started", help, families.calls_started.clone());
    let help = "Duration of finished gRPC calls by status code";
    seconds(registry, "grpc_server_call_duration", help, families.call_durations.clone());
    let help = "Duration of requests on the HTTP port";
    seconds(registry, "http_server_request_duration", help, families.http_durations.clone());
}

fn stages(registry: &mut Registry, stats: &Stats) {
    let families = stats.families();
    let help = "Time that embedding requests spent in a stage";
    seconds(registry, "embedd_stage_duration", help, families.stage_durations.clone());
    registry.register("embedd_batch_texts", "Texts per batch", families.batch_texts.clone());
    registry.register("embedd_batch_tokens", "Tokens per batch, without padding", families.batch_tokens.clone());
}

/// The queue and its sessions.
fn pool(registry: &mut Registry, embedder: &Embedder) {
    let queue = embedder.queue_stats();
    registry.register("embedd_queue_texts", "Texts waiting for a session", gauge(queue.depth as u64));
    registry.register("embedd_queue_limit_texts", "Maximum number of waiting texts", gauge(queue.capacity as u64));
    registry.register("embedd_texts_refused", "Texts refused because the queue was full", counter(queue.refused));
    let help = "Texts dropped before inference because the caller disconnected or its deadline expired";
    registry.register("embedd_texts_abandoned", help, counter(queue.abandoned));
    let sessions = embedder.session_stats();
    registry.register("embedd_sessions", "Sessions in the pool", gauge(sessions.total as u64));
    registry.register("embedd_sessions_busy", "Sessions running a batch", gauge(sessions.busy as u64));
}

async fn cache(registry: &mut Registry, embedder: &Embedder) {
    let cache = embedder.cache_stats().await;
    registry.register("embedd_cache_hits", "Texts found in the cache", counter(cache.hits));
    registry.register("embedd_cache_misses", "Texts not found in the cache", counter(cache.misses));
    let help = "Cache entries removed to free space or because they expired";
    registry.register("embedd_cache_evictions", help, counter(cache.evictions));
    registry.register("embedd_cache_entries", "Entries in the cache", gauge(cache.entries));
    bytes(registry, "embedd_cache", "Memory used by the cache entries", cache.bytes);
    bytes(registry, "embedd_cache_limit", "Maximum memory for the cache entries", cache.capacity_bytes);
}

fn describe(registry: &mut Registry, model: &ModelInfo) {
    let info = Info::new(vec![
        ("model", model.names.main().to_owned()),
        ("revision", model.revision.clone()),
        ("fingerprint", model.fingerprint.clone()),
        ("engine", model.variant.to_string()),
        ("device", model.device()),
        ("instruction_set", model.instruction_set.clone()),
        ("quantization", model.quantization.clone()),
    ]);
    registry.register("embedd_model", "The model that is served", info);
    if let Some(memory) = model.gpu.as_ref().and_then(Gpu::memory) {
        bytes(registry, "embedd_gpu_memory_used", "Memory of the GPU in use, by all processes", memory.used);
        bytes(registry, "embedd_gpu_memory", "Memory of the GPU", memory.total);
    }
    if let Some(accuracy) = model.accuracy {
        let cosines = Family::<Vec<(&str, &str)>, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
        cosines.get_or_create(&vec![("statistic", "min")]).set(accuracy.min_cosine);
        cosines.get_or_create(&vec![("statistic", "mean")]).set(accuracy.mean_cosine);
        let help = "Cosine to PyTorch over the reference set, measured at conversion";
        registry.register("embedd_model_accuracy_cosine", help, cosines);
    }
}

/// The version of ONNX Runtime is empty until the first model is loaded, which loads the library.
fn build(registry: &mut Registry, model: Option<&ModelInfo>) {
    let runtime = model.map(|model| model.runtime_version.clone()).unwrap_or_default();
    let info = Info::new(vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("onnxruntime_version", runtime)]);
    registry.register("embedd_build", "Version of embedd and of ONNX Runtime", info);
}

/// Uses the names that all Prometheus client libraries use.
fn system(registry: &mut Registry, stats: &ProcessStats) {
    let cpu = ConstCounter::new(stats.cpu_time.as_secs_f64());
    seconds(registry, "process_cpu", "CPU time of all threads", cpu);
    let started = ConstGauge::new(stats.start_time.as_secs_f64());
    seconds(registry, "process_start_time", "Start time of the process, since 1970-01-01 00:00 UTC", started);
    bytes(registry, "process_resident_memory", "Resident memory", stats.resident_bytes);
    bytes(registry, "process_virtual_memory", "Virtual memory", stats.virtual_bytes);
    registry.register("process_open_fds", "Open file descriptors", gauge(stats.open_fds));
    if let Some(max) = stats.max_fds {
        registry.register("process_max_fds", "Maximum number of open file descriptors", gauge(max));
    }
    registry.register("process_threads", "Threads", gauge(stats.threads));
}

fn seconds(registry: &mut Registry, name: &str, help: &str, metric: impl prometheus_client::registry::Metric) {
    registry.register_with_unit(name, help, Unit::Seconds, metric);
}

fn bytes(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register_with_unit(name, help, Unit::Bytes, gauge(value));
}

/// As a float: Prometheus stores all values as such, and some sizes do not fit an `i64`.
fn gauge(value: u64) -> ConstGauge<f64> {
    ConstGauge::new(value as f64)
}

fn counter(value: u64) -> ConstCounter<u64> {
    ConstCounter::new(value)
}
