//! What the server has been doing: replies since the start, and latencies over the last minute.
//!
//! A leaf: whoever does something tells it, once, and whoever asks gets plain numbers, or the counters and histograms
//! that Prometheus reads.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

mod calls;
mod families;
mod gauges;
mod http;
mod latency;
mod window;

use calls::MethodRecord;
pub(crate) use calls::{Call, Method, MethodSnapshot};
pub(crate) use families::Families;
pub(crate) use gauges::{BatchCounters, CacheStats, QueueStats, SessionStats};
pub(crate) use http::HttpRequest;
pub(crate) use latency::Latency;
use prometheus_client::metrics::histogram::Histogram;
use window::Window;

/// What latencies look back on, less a slice of it at most.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// Where the time of a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// From text to token ids.
    Tokenize,
    /// Waiting for a session.
    Queue,
    /// The model.
    Infer,
}

/// Shared by all that tell; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    families: Families,
    methods: [MethodRecord; Method::ALL.len()],
    stages: [StageRecord; Stage::ALL.len()],
    batches: BatchCounters,
}

#[derive(Debug)]
struct StageRecord {
    recent: Window,
    all: Histogram,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Snapshot {
    /// Since the start.
    pub uptime: Duration,
    /// Each method, also those that were not called.
    pub methods: Vec<MethodSnapshot>,
    /// Each stage.
    pub stages: Vec<(Stage, Latency)>,
}

impl Stage {
    /// Every stage, in the order of the variants.
    pub(crate) const ALL: [Self; 3] = [Self::Tokenize, Self::Queue, Self::Infer];

    /// The word for it.
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
        let (started, families) = (Instant::now(), Families::default());
        let stage = |stage: Stage| StageRecord { recent: Window::new(started, WINDOW), all: families.stage(stage) };
        Self {
            started,
            methods: Method::ALL.map(|method| MethodRecord::new(method, started, &families)),
            stages: Stage::ALL.map(stage),
            batches: BatchCounters::new(families.batch_texts.clone(), families.batch_tokens.clone()),
            families,
        }
    }
}

impl Stats {
    /// A call begins, which is dropped at its deadline where it has one.
    pub(crate) fn call(&self, method: Method, deadline: Option<Instant>) -> Call {
        Call::begin(self.clone(), method, deadline)
    }

    /// A request on the HTTP port begins; `method` and `route` are among a bounded number of texts.
    pub(crate) fn http_request(&self, method: &'static str, route: &str) -> HttpRequest {
        HttpRequest::begin(&self.0.families.http_durations, method, route)
    }

    /// A request has been through a stage. One that took no time was not gone through, and is not counted.
    pub(crate) fn record_stage(&self, stage: Stage, took: Duration) {
        if !took.is_zero() {
            let record = &self.0.stages[stage as usize];
            record.recent.record(Instant::now(), took);
            record.all.observe(took.as_secs_f64());
        }
    }

    /// What batchers count on, one after the other where the model is changed.
    pub(crate) fn batches(&self) -> &BatchCounters {
        &self.0.batches
    }

    /// What was counted since the start, to be read at any time.
    pub(crate) fn families(&self) -> &Families {
        &self.0.families
    }

    /// Everything as it is now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let stage = |(stage, record): (Stage, &StageRecord)| (stage, record.recent.latency(now));
        Snapshot {
            uptime: now.saturating_duration_since(self.0.started),
            methods: self.0.methods.iter().map(|record| record.snapshot(now)).collect(),
            stages: Stage::ALL.into_iter().zip(&self.0.stages).map(stage).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
