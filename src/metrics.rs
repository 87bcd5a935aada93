//! What the server knows of itself, as Prometheus reads it: `docs/OPERATING.md` lists it.
//!
//! Everything is gathered when it is asked for, so that nothing outlives what it tells of: a model that is no longer
//! served, a stage of a server that has none.

use std::fmt;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::embed::{Embedder, ModelInfo};
use crate::model_slot::ModelSlot;
use crate::readiness::{Phase, Readiness};
use crate::stats::Stats;
use embedd_common::process::{self, ProcessStats};

/// The form of [`Metrics::text`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where the metrics come from; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// What was counted.
    pub stats: Stats,
    /// The model, once it is loaded.
    pub model: ModelSlot,
    /// Whether requests are welcome.
    pub readiness: Readiness,
}

impl Metrics {
    /// All metrics as they are now, in the text format of OpenMetrics 1.0.
    ///
    /// # Errors
    /// None that is known: text can be made of every metric.
    pub(crate) async fn text(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        let model = self.model.get();
        calls(&mut registry, &self.stats);
        stages(&mut registry, &self.stats);
        if let Some(embedder) = &model {
            pool(&mut registry, embedder);
            cache(&mut registry, embedder).await;
        }
        let ready = self.readiness.phase() == Phase::Ready;
        registry.register("embedd_model_ready", "Whether health says SERVING", gauge(u64::from(ready)));
        let info = model.as_ref().map(|embedder| embedder.model());
        build(&mut registry, info);
        info.into_iter().for_each(|info| describe(&mut registry, info));
        process::stats().iter().for_each(|stats| system(&mut registry, stats));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

fn calls(registry: &mut Registry, stats: &Stats) {
    let families = stats.families();
    let help = "Calls of gRPC that have begun";
    registry.register("grpc_server_call_started", help, families.calls_started.clone());
    let help = "Time from a gRPC call's beginning to its end, by the status that it ended with";
    seconds(registry, "grpc_server_call_duration", help, families.call_durations.clone());
    let help = "Time of a request on the HTTP port";
    seconds(registry, "http_server_request_duration", help, families.http_durations.clone());
}

fn stages(registry: &mut Registry, stats: &Stats) {
    let families = stats.families();
    let help = "Time that a request spent in a stage";
    seconds(registry, "embedd_stage_duration", help, families.stage_durations.clone());
    registry.register("embedd_batch_texts", "Texts of a batch", families.batch_texts.clone());
    registry.register("embedd_batch_tokens", "Tokens of a batch, without padding", families.batch_tokens.clone());
}

/// The queue and the sessions behind it.
fn pool(registry: &mut Registry, embedder: &Embedder) {
    let (queue, sessions) = (embedder.queue_stats(), embedder.session_stats());
    registry.register("embedd_queue_texts", "Texts that wait for a session", gauge(queue.depth as u64));
    registry.register("embedd_queue_limit_texts", "Texts that may wait", gauge(queue.capacity as u64));
    registry.register("embedd_texts_refused", "Texts that found the queue full", counter(queue.refused));
    let help = "Texts dropped before inference, because nobody waited for them any more";
    registry.register("embedd_texts_abandoned", help, counter(queue.abandoned));
    registry.register("embedd_sessions", "Sessions in the pool", gauge(sessions.total as u64));
    registry.register("embedd_sessions_busy", "Sessions that run a batch", gauge(sessions.busy as u64));
}

async fn cache(registry: &mut Registry, embedder: &Embedder) {
    let cache = embedder.cache_stats().await;
    registry.register("embedd_cache_hits", "Texts that were in the cache", counter(cache.hits));
    registry.register("embedd_cache_misses", "Texts that were not in the cache", counter(cache.misses));
    let help = "Entries of the cache that had to make room, or had reached their age";
    registry.register("embedd_cache_evictions", help, counter(cache.evictions));
    registry.register("embedd_cache_entries", "Entries of the cache", gauge(cache.entries));
    bytes(registry, "embedd_cache", "Memory that the entries of the cache take", cache.bytes);
    bytes(registry, "embedd_cache_limit", "Memory that the entries of the cache may take", cache.capacity_bytes);
}

fn describe(registry: &mut Registry, model: &ModelInfo) {
    let info = Info::new(vec![
        ("model", model.name.clone()),
        ("revision", model.revision.clone()),
        ("fingerprint", model.fingerprint.clone()),
        ("engine", model.variant.to_string()),
        ("instruction_set", model.instruction_set.clone()),
        ("quantization", model.quantization.clone()),
    ]);
    registry.register("embedd_model", "The model being served", info);
    if let Some(accuracy) = model.accuracy {
        let cosines = Family::<Vec<(&str, &str)>, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
        cosines.get_or_create(&vec![("statistic", "min")]).set(accuracy.min_cosine);
        cosines.get_or_create(&vec![("statistic", "mean")]).set(accuracy.mean_cosine);
        let help = "Cosine of the model's embeddings to PyTorch's over the reference set, when it was converted";
        registry.register("embedd_model_accuracy_cosine", help, cosines);
    }
}

/// The library is opened with the first model.
fn build(registry: &mut Registry, model: Option<&ModelInfo>) {
    let runtime = model.map(|model| model.runtime_version.clone()).unwrap_or_default();
    let info = Info::new(vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("onnxruntime_version", runtime)]);
    registry.register("embedd_build", "The program and the ONNX Runtime library that it runs models with", info);
}

/// By the names that all client libraries of Prometheus use.
fn system(registry: &mut Registry, stats: &ProcessStats) {
    let cpu = ConstCounter::new(stats.cpu_time.as_secs_f64());
    seconds(registry, "process_cpu", "CPU time of all threads", cpu);
    let started = ConstGauge::new(stats.start_time.as_secs_f64());
    seconds(registry, "process_start_time", "When the process started, since 1970-01-01 00:00 UTC", started);
    bytes(registry, "process_resident_memory", "Memory in use", stats.resident_bytes);
    bytes(registry, "process_virtual_memory", "Addresses in use", stats.virtual_bytes);
    registry.register("process_open_fds", "File descriptors in use", gauge(stats.open_fds));
    if let Some(max) = stats.max_fds {
        registry.register("process_max_fds", "File descriptors that may be in use", gauge(max));
    }
    registry.register("process_threads", "Threads", gauge(stats.threads));
}

fn seconds(registry: &mut Registry, name: &str, help: &str, metric: impl prometheus_client::registry::Metric) {
    registry.register_with_unit(name, help, Unit::Seconds, metric);
}

fn bytes(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register_with_unit(name, help, Unit::Bytes, gauge(value));
}

/// A float: Prometheus reads all values as such, and some sizes fit no `i64`.
fn gauge(value: u64) -> ConstGauge<f64> {
    ConstGauge::new(value as f64)
}

fn counter(value: u64) -> ConstCounter<u64> {
    ConstCounter::new(value)
}
