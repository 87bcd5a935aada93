//! Statistics of the server: responses since the start, and latencies over the last minute.
//!
//! Every event is recorded once. Readers get plain numbers, or the counters and histograms of the Prometheus metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

mod calls;
mod errors;
mod families;
mod gauges;
mod http;
mod latency;
mod window;

use calls::MethodRecord;
pub(crate) use calls::{Call, Method, MethodSnapshot};
use errors::ErrorCounters;
pub(crate) use errors::ErrorTotals;
pub(crate) use families::Families;
pub(crate) use gauges::{BatchCounters, BatchTotals, CacheStats, QueueStats, SessionStats};
pub(crate) use http::HttpRequest;
pub(crate) use latency::Latency;
use prometheus_client::metrics::histogram::Histogram;
use window::Window;

/// The window of latencies; the effective one is shorter by up to one slice (see [`window`]).
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// A stage of an embedding request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// From text to token ids.
    Tokenize,
    /// Waiting for a session.
    Queue,
    /// Running the model.
    Infer,
}

/// Shared by everything that records statistics; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    families: Families,
    methods: [MethodRecord; Method::ALL.len()],
    stages: [StageRecord; Stage::ALL.len()],
    batches: BatchCounters,
    requests: RequestRecord,
    errors: ErrorCounters,
}

/// Requests for embeddings that were answered, of all protocols.
#[derive(Debug)]
struct RequestRecord {
    recent: Window,
    requests: AtomicU64,
    texts: AtomicU64,
}

/// Requests for embeddings that were answered since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RequestTotals {
    pub requests: u64,
    pub texts: u64,
}

#[derive(Debug)]
struct StageRecord {
    recent: Window,
    total: Histogram,
}

/// All statistics at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Snapshot {
    pub uptime: Duration,
    /// All methods, including those never called.
    pub methods: Vec<MethodSnapshot>,
    pub stages: Vec<(Stage, Latency)>,
}

impl Stage {
    /// Every stage, in the order of the variants.
    pub(crate) const ALL: [Self; 3] = [Self::Tokenize, Self::Queue, Self::Infer];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tokenize => "tokenize",
            Self::Queue => "queue",
            Self::Infer => "infer",
        }
    }
}

impl Default for Inner {
    fn default() -> Self {
        let started = Instant::now();
        let families = Families::default();
        let stage = |stage: Stage| StageRecord { recent: Window::new(started, WINDOW), total: families.stage(stage) };
        Self {
            started,
            methods: Method::ALL.map(|method| MethodRecord::new(method, started, &families)),
            stages: Stage::ALL.map(stage),
            batches: BatchCounters::new(families.batch_texts.clone(), families.batch_tokens.clone()),
            requests: RequestRecord {
                recent: Window::new(started, WINDOW),
                requests: AtomicU64::new(0),
                texts: AtomicU64::new(0),
            },
            errors: ErrorCounters::default(),
            families,
        }
    }
}

impl Stats {
    /// Records the start of a call, which will be dropped at its deadline if it has one.
    pub(crate) fn call(&self, method: Method, deadline: Option<Instant>) -> Call {
        Call::begin(self.clone(), method, deadline)
    }

    /// Records the start of a request on the HTTP port. `method` and `route` become labels, so their number must
    /// be bounded.
    pub(crate) fn http_request(&self, method: &'static str, route: &str) -> HttpRequest {
        HttpRequest::begin(&self.0.families.http_durations, method, route)
    }

    /// Records the time that a request spent in a stage; zero means that it skipped the stage, which is not counted.
    pub(crate) fn record_stage(&self, stage: Stage, took: Duration) {
        if !took.is_zero() {
            let record = &self.0.stages[stage as usize];
            record.recent.record(Instant::now(), took);
            record.total.observe(took.as_secs_f64());
        }
    }

    /// Records a request for embeddings that was answered, and how long it took.
    pub(crate) fn record_request(&self, texts: usize, took: Duration) {
        let record = &self.0.requests;
        record.recent.record(Instant::now(), took);
        record.requests.fetch_add(1, Ordering::Relaxed);
        record.texts.fetch_add(texts as u64, Ordering::Relaxed);
    }

    /// Records the status of a call of an HTTP API.
    pub(crate) fn record_http_status(&self, status: u16) {
        self.0.errors.count_http_status(status);
    }

    /// The counters of the batcher. After a reload, the next batcher continues with them.
    pub(crate) fn batches(&self) -> &BatchCounters {
        &self.0.batches
    }

    /// Counters and histograms since the start.
    pub(crate) fn families(&self) -> &Families {
        &self.0.families
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    pub(crate) fn requests(&self) -> RequestTotals {
        let RequestRecord { requests, texts, .. } = &self.0.requests;
        RequestTotals { requests: requests.load(Ordering::Relaxed), texts: texts.load(Ordering::Relaxed) }
    }

    pub(crate) fn errors(&self) -> ErrorTotals {
        self.0.errors.totals()
    }

    /// How long requests for embeddings took over the last minute.
    pub(crate) fn request_latency(&self) -> Latency {
        self.0.requests.recent.latency(Instant::now())
    }

    /// How long a stage took over the last minute.
    pub(crate) fn stage_latency(&self, stage: Stage) -> Latency {
        self.0.stages[stage as usize].recent.latency(Instant::now())
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        Snapshot {
            uptime: now.saturating_duration_since(self.0.started),
            methods: self.0.methods.iter().map(|record| record.snapshot(now)).collect(),
            stages: Stage::ALL.into_iter().map(|stage| (stage, self.stage_latency(stage))).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
