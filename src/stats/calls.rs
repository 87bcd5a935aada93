//! gRPC calls: how many, their status codes and durations.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

use super::families::Families;
use super::window::Window;
use super::{Latency, Stats, WINDOW};
use embedd_proto::codes::{self, Code};

/// The number of gRPC status codes.
const CODES: usize = codes::NAMES.len();
/// Recorded for a call whose caller disconnected.
const CANCELLED: Code = 1;
/// Recorded for a code that gRPC does not define.
const UNKNOWN: Code = 2;
/// Recorded for a call that was dropped at its deadline.
const DEADLINE_EXCEEDED: Code = 4;
/// Recorded for a call that panicked.
const INTERNAL: Code = 13;

/// Turns the table of calls into [`Method`], [`Method::ALL`] and [`Method::name`].
macro_rules! methods {
    ($($(#[doc = $doc:literal])* $method:ident = $name:literal,)+) => {
        /// The methods that are counted separately.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Method { $($(#[doc = $doc])* $method,)+ }

        impl Method {
            /// Every method, in the order of the variants.
            pub(crate) const ALL: [Self; [$($name),+].len()] = [$(Self::$method),+];

            /// The full gRPC name, without the leading slash.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$method => $name,)+
                }
            }
        }
    };
}

methods! {
    Embed = "embedd.v1.EmbeddingService/Embed",
    EmbedStream = "embedd.v1.EmbeddingService/EmbedStream",
    CountTokens = "embedd.v1.EmbeddingService/CountTokens",
    GetModel = "embedd.v1.EmbeddingService/GetModel",
    Validate = "embedd.v1.AdminService/Validate",
    Benchmark = "embedd.v1.AdminService/Benchmark",
    GetStats = "embedd.v1.AdminService/GetStats",
    ClearCache = "embedd.v1.AdminService/ClearCache",
    ReloadModel = "embedd.v1.AdminService/ReloadModel",
    TeiInfo = "tei.v1.Info/Info",
    TeiEmbed = "tei.v1.Embed/Embed",
    TeiEmbedStream = "tei.v1.Embed/EmbedStream",
    TeiEmbedSparse = "tei.v1.Embed/EmbedSparse",
    TeiEmbedSparseStream = "tei.v1.Embed/EmbedSparseStream",
    TeiEmbedAll = "tei.v1.Embed/EmbedAll",
    TeiEmbedAllStream = "tei.v1.Embed/EmbedAllStream",
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
    HealthCheck = "grpc.health.v1.Health/Check",
    HealthWatch = "grpc.health.v1.Health/Watch",
    Reflection = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ReflectionAlpha = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    /// All unknown methods together: callers can send any name.
    Other = "_OTHER",
}

impl Method {
    /// Whether it asks about the server rather than for its work.
    fn is_probe(self) -> bool {
        use Method::{HealthCheck, HealthWatch, ModelReady, Reflection, ReflectionAlpha, ServerLive, ServerReady};
        matches!(self, HealthCheck | HealthWatch | ModelReady | Reflection | ReflectionAlpha | ServerLive | ServerReady)
    }

    /// The method of a request path such as `/embedd.v1.EmbeddingService/Embed`.
    pub(crate) fn of_path(path: &str) -> Self {
        let name = path.strip_prefix('/').unwrap_or(path);
        Self::ALL.into_iter().find(|method| method.name() == name).unwrap_or(Self::Other)
    }
}

/// The statistics of one method.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MethodSnapshot {
    pub method: Method,
    /// The latency of calls that ended within the window, with any code.
    pub latency: Latency,
    /// Responses since the start by status code, without codes that never occurred.
    pub replies: Vec<(Code, u64)>,
}

#[derive(Debug)]
pub(super) struct MethodRecord {
    method: Method,
    started: Counter,
    replies: [Replies; CODES],
    recent: Window,
}

#[derive(Debug, Default)]
struct Replies {
    count: AtomicU64,
    /// Created with the first response, so that codes that never occur export no histogram.
    durations: OnceLock<Histogram>,
}

impl MethodRecord {
    pub(super) fn new(method: Method, now: Instant, families: &Families) -> Self {
        let started = families.calls_started(method);
        Self { method, started, replies: Default::default(), recent: Window::new(now, WINDOW) }
    }

    pub(super) fn snapshot(&self, now: Instant) -> MethodSnapshot {
        let counts = self.replies.iter().map(|replies| replies.count.load(Ordering::Relaxed));
        let replies = (0..).zip(counts).filter(|&(_, count)| count > 0).collect();
        MethodSnapshot { method: self.method, latency: self.recent.latency(now), replies }
    }

    fn end(&self, families: &Families, code: Code, start: Instant, now: Instant) {
        let code = if usize::try_from(code).is_ok_and(|code| code < CODES) { code } else { UNKNOWN };
        let took = now.saturating_duration_since(start);
        let replies = &self.replies[code as usize];
        replies.count.fetch_add(1, Ordering::Relaxed);
        let durations = replies.durations.get_or_init(|| families.call_durations(self.method, code));
        durations.observe(took.as_secs_f64());
        self.recent.record(now, took);
    }
}

/// A call in flight. If it is dropped without [`end`](Self::end), its deadline has passed (DEADLINE_EXCEEDED), it
/// panicked (INTERNAL), or its caller has disconnected (CANCELLED).
#[derive(Debug)]
pub(crate) struct Call {
    stats: Stats,
    method: Method,
    start: Instant,
    deadline: Option<Instant>,
    code: Option<Code>,
}

impl Call {
    pub(super) fn begin(stats: Stats, method: Method, deadline: Option<Instant>) -> Self {
        stats.0.methods[method as usize].started.inc();
        Self { stats, method, start: Instant::now(), deadline, code: None }
    }

    pub(crate) fn method(&self) -> Method {
        self.method
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends the call with this status code.
    pub(crate) fn end(mut self, code: Code) {
        self.code = Some(code);
    }

    /// The status code to record if the call is dropped now.
    pub(crate) fn why_dropped(&self) -> Code {
        if std::thread::panicking() {
            INTERNAL
        } else if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            DEADLINE_EXCEEDED
        } else {
            CANCELLED
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let now = Instant::now();
        let stats = &self.stats.0;
        let code = self.code.unwrap_or_else(|| self.why_dropped());
        if !self.method.is_probe() {
            stats.errors.count_code(code);
        }
        stats.methods[self.method as usize].end(&stats.families, code, self.start, now);
    }
}
