//! What a load test found, as it is written and shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::{Lengths, Step};

/// The layout of the JSON that this version writes.
pub const SCHEMA: u32 = 1;

/// What a load test found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`] of the version that wrote it.
    pub schema: u32,
    /// What was called.
    pub server: Server,
    /// What called it, where and when.
    pub client: Client,
    /// What was asked for.
    pub settings: Settings,
    /// What was measured, in the order of the steps.
    pub steps: Vec<StepFigures>,
    /// It was stopped before its end; the last step is shorter than the others.
    pub interrupted: bool,
}

/// The server, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in GetModelResponse")]
pub struct Server {
    /// As it was given.
    pub address: String,
    pub model: String,
    pub engine: String,
    pub instruction_set: String,
    pub quantization: String,
    pub version: String,
    pub onnxruntime_version: String,
    pub sessions: u32,
    pub threads_per_session: u32,
}

/// The machine of the load generator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Client {
    /// Version of embedd.
    pub version: String,
    /// The CPU's name, as far as it is known.
    pub cpu: String,
    /// CPUs that the process may use.
    pub cpus: usize,
    /// The operating system and the architecture.
    pub os: String,
    /// When, in UTC.
    pub date: String,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Measured seconds of a step.
    pub duration_s: f64,
    /// Seconds before that.
    pub warm_up_s: f64,
    /// Texts of a request.
    pub texts_per_request: usize,
    /// Tokens of a text; none where texts were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Lengths>,
    /// Texts that were drawn from; none: every text was another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<usize>,
    /// Whether the server was told to compute what its cache has.
    pub skip_cache: bool,
    /// The deadline of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<f64>,
    /// `float` or `bytes`.
    pub encoding: String,
    /// Whether embeddings were compared with those of texts alone.
    pub verify: bool,
    /// Of texts and arrivals.
    pub seed: u64,
}

/// What was measured of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepFigures {
    /// The load.
    #[serde(flatten)]
    pub step: Step,
    /// HTTP/2 connections.
    pub connections: usize,
    /// How long it was measured.
    pub seconds: f64,
    /// Requests that were answered with embeddings.
    pub requests: u64,
    /// Their texts.
    pub texts: u64,
    /// The texts' tokens, as the replies tell.
    pub tokens: u64,
    /// `requests` a second.
    pub requests_per_s: f64,
    /// `texts` a second.
    pub texts_per_s: f64,
    /// `tokens` a second.
    pub tokens_per_s: f64,
    /// Of `requests`: in a closed loop from sending, in an open one from when sending was due, to the decoded reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Of requests that got RESOURCE_EXHAUSTED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Latency>,
    /// Requests by gRPC code.
    pub codes: BTreeMap<String, u64>,
    /// What the first reply of each code but OK said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub messages: BTreeMap<String, String>,
    /// Requests of an open loop that were not sent because too many were without a reply.
    pub not_sent: u64,
    /// The share of embeddings that came from the server's cache.
    pub cached_share: f64,
    /// Requests whose texts had other tokens than they were made of.
    pub wrong_length: u64,
    /// Embeddings that differ from those of the same texts alone; none where they were not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatches: Option<u64>,
    /// Bytes of request messages that were answered, without what HTTP/2 adds.
    pub sent_bytes: u64,
    /// Bytes of their replies' messages.
    pub received_bytes: u64,
    /// Where the time went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
    /// CPU time of the load generator by wall time: 1 is one CPU in full. None where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cpu: Option<f64>,
}

/// Latencies, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub count: u64,
    pub mean_ms: f64,
    pub min_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub p99_9_ms: f64,
    pub max_ms: f64,
}

/// Where the time of requests went; each is a P50 of its own, so that they do not add up exactly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// The server's own: waiting for a session.
    pub queue_p50_ms: f64,
    /// The server's own: running the model.
    pub infer_p50_ms: f64,
    /// The server's own: from the decoded request to the finished reply.
    pub total_p50_ms: f64,
    /// From sending to the decoded reply, less `queue` and `infer`: tokenising, gRPC, the network, the load generator.
    pub overhead_p50_ms: f64,
}

impl Results {
    /// Requests that were answered, over all steps.
    pub fn requests(&self) -> u64 {
        self.steps.iter().map(|step| step.requests).sum()
    }

    /// Embeddings that differ from those of the same texts alone, over all steps.
    pub fn mismatches(&self) -> u64 {
        self.steps.iter().filter_map(|step| step.mismatches).sum()
    }
}
