//! What the server has been doing: replies since the start, and latencies over the last minute.
//!
//! A leaf: whoever does something tells it, and whoever asks gets plain numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

mod gauges;
mod latency;
mod window;

pub use gauges::{BatchCounters, CacheStats, QueueStats, SessionStats};
pub use latency::Latency;
use window::Window;

/// What latencies look back on, less a slice of it at most.
pub const WINDOW: Duration = Duration::from_secs(60);

/// A code of gRPC, 0 (OK) to 16 (UNAUTHENTICATED).
pub type Code = i32;

/// Codes of gRPC.
const CODES: usize = 17;
/// The code of a reply that nobody waited for.
const CANCELLED: Code = 1;
/// The code of a reply whose code is none of gRPC's.
const UNKNOWN: Code = 2;
/// The code of a call whose caller waits no longer.
const DEADLINE_EXCEEDED: Code = 4;
/// The code of a call that panicked.
const INTERNAL: Code = 13;

/// Turns the table of calls into [`Method`], [`Method::ALL`] and [`Method::name`].
macro_rules! methods {
    ($($method:ident = $name:literal,)+) => {
        /// The calls that are counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the variants are the calls")]
        pub enum Method { $($method,)+ }

        impl Method {
            /// Every method, in the order of the variants.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$method),+];

            /// As gRPC names it, without the slash in front.
            pub fn name(self) -> &'static str {
                match self { $(Self::$method => $name,)+ }
            }
        }
    };
}

methods! {
    Embed = "embedd.v1.EmbeddingService/Embed",
    EmbedStream = "embedd.v1.EmbeddingService/EmbedStream",
    CountTokens = "embedd.v1.EmbeddingService/CountTokens",
    GetModel = "embedd.v1.EmbeddingService/GetModel",
    TeiInfo = "tei.v1.Info/Info",
    TeiEmbed = "tei.v1.Embed/Embed",
    TeiEmbedStream = "tei.v1.Embed/EmbedStream",
    TeiTokenize = "tei.v1.Tokenize/Tokenize",
    TeiTokenizeStream = "tei.v1.Tokenize/TokenizeStream",
    TeiDecode = "tei.v1.Tokenize/Decode",
    TeiDecodeStream = "tei.v1.Tokenize/DecodeStream",
    ServerLive = "inference.GRPCInferenceService/ServerLive",
    ServerReady = "inference.GRPCInferenceService/ServerReady",
    ModelReady = "inference.GRPCInferenceService/ModelReady",
    ServerMetadata = "inference.GRPCInferenceService/ServerMetadata",
    ModelMetadata = "inference.GRPCInferenceService/ModelMetadata",
    ModelInfer = "inference.GRPCInferenceService/ModelInfer",
    Validate = "embedd.v1.AdminService/Validate",
    Benchmark = "embedd.v1.AdminService/Benchmark",
    GetStats = "embedd.v1.AdminService/GetStats",
    ClearCache = "embedd.v1.AdminService/ClearCache",
    ReloadModel = "embedd.v1.AdminService/ReloadModel",
}

/// Where the time of a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// From text to token ids.
    Tokenize,
    /// Waiting for a session.
    Queue,
    /// The model.
    Infer,
}

/// Shared by all that tell; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Stats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    methods: [MethodRecord; Method::ALL.len()],
    stages: [Window; Stage::ALL.len()],
    batches: BatchCounters,
}

#[derive(Debug)]
struct MethodRecord {
    replies: [AtomicU64; CODES],
    latency: Window,
}

/// A call under way. Dropped before its end is told, it has come to its deadline (DEADLINE_EXCEEDED), it panics
/// (INTERNAL), or its caller has left (CANCELLED).
#[derive(Debug)]
pub struct Call {
    stats: Stats,
    method: Method,
    started: Instant,
    deadline: Option<Instant>,
    code: Option<Code>,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Since the start.
    pub uptime: Duration,
    /// Each method, also those that were not called.
    pub methods: Vec<MethodSnapshot>,
    /// Each stage.
    pub stages: Vec<(Stage, Latency)>,
}

/// What is known of one method.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodSnapshot {
    /// Which.
    pub method: Method,
    /// Of the calls that ended within the window, however they ended.
    pub latency: Latency,
    /// How many replies there were since the start, by code; codes that never were are left out.
    pub replies: Vec<(Code, u64)>,
}

impl Stage {
    /// Every stage, in the order of the variants.
    pub const ALL: [Self; 3] = [Self::Tokenize, Self::Queue, Self::Infer];

    /// The word for it.
    pub fn name(self) -> &'static str {
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
        let record = || MethodRecord { replies: Default::default(), latency: Window::new(started, WINDOW) };
        Self {
            started,
            methods: std::array::from_fn(|_| record()),
            stages: std::array::from_fn(|_| Window::new(started, WINDOW)),
            batches: BatchCounters::default(),
        }
    }
}

impl Stats {
    /// A call begins, which is dropped at its deadline where it has one.
    pub fn call(&self, method: Method, deadline: Option<Instant>) -> Call {
        Call { stats: self.clone(), method, started: Instant::now(), deadline, code: None }
    }

    /// A request has been through a stage. One that took no time was not gone through, and is not counted.
    pub fn record_stage(&self, stage: Stage, took: Duration) {
        if !took.is_zero() {
            self.0.stages[stage as usize].record(Instant::now(), took);
        }
    }

    /// What batchers count on, one after the other where the model is changed.
    pub fn batches(&self) -> &BatchCounters {
        &self.0.batches
    }

    /// Everything as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let method = |(method, record): (Method, &MethodRecord)| MethodSnapshot {
            method,
            latency: record.latency.latency(now),
            replies: record.replies(),
        };
        let stage = |(stage, window): (Stage, &Window)| (stage, window.latency(now));
        Snapshot {
            uptime: now.saturating_duration_since(self.0.started),
            methods: Method::ALL.into_iter().zip(&self.0.methods).map(method).collect(),
            stages: Stage::ALL.into_iter().zip(&self.0.stages).map(stage).collect(),
        }
    }
}

impl MethodRecord {
    fn replies(&self) -> Vec<(Code, u64)> {
        let counts = self.replies.iter().map(|count| count.load(Ordering::Relaxed));
        (0..).zip(counts).filter(|&(_, count)| count > 0).collect()
    }
}

impl Call {
    /// It has ended with this code.
    pub fn end(mut self, code: Code) {
        self.code = Some(code);
    }

    /// Of a call that was dropped.
    fn why_dropped(&self, now: Instant) -> Code {
        if std::thread::panicking() {
            INTERNAL
        } else if self.deadline.is_some_and(|deadline| deadline <= now) {
            DEADLINE_EXCEEDED
        } else {
            CANCELLED
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let record = &self.stats.0.methods[self.method as usize];
        let now = Instant::now();
        let code = self.code.unwrap_or_else(|| self.why_dropped(now));
        let code = usize::try_from(code).ok().filter(|&code| code < CODES).unwrap_or(UNKNOWN as usize);
        record.replies[code].fetch_add(1, Ordering::Relaxed);
        record.latency.record(now, now.saturating_duration_since(self.started));
    }
}

#[cfg(test)]
mod tests;
