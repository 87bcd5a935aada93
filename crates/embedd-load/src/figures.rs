//! The results of a load test, as they are written to files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::{Lengths, Step};

/// The version of the JSON format.
pub const SCHEMA: u32 = 1;

/// The results of a load test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The [`SCHEMA`] that it was written with.
    pub schema: u32,
    /// The server that was tested.
    pub server: Server,
    /// The load generator, its machine and the time.
    pub client: Client,
    /// The parameters of the test.
    pub settings: Settings,
    /// The measurements of each step, in order.
    pub steps: Vec<StepFigures>,
    /// Whether the test was interrupted, so that the last step is shorter than the others.
    pub interrupted: bool,
}

/// The server, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in GetModelResponse")]
pub struct Server {
    /// The address given on the command line.
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
    /// The version of embedd.
    pub version: String,
    /// The name of the CPU, if known.
    pub cpu: String,
    /// The number of CPUs available to the process.
    pub cpus: usize,
    /// The operating system and the architecture.
    pub os: String,
    /// The start of the test, in UTC.
    pub date: String,
}

/// The parameters of a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Seconds measured in each step.
    pub duration_s: f64,
    /// Seconds before the measurement.
    pub warm_up_s: f64,
    /// Texts per request.
    pub texts_per_request: usize,
    /// Tokens per text; `None` if the texts were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Lengths>,
    /// The number of distinct texts; `None` if every text was different.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<usize>,
    /// Whether the server bypassed its cache.
    pub skip_cache: bool,
    /// The deadline of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<f64>,
    /// `float` or `bytes`.
    pub encoding: String,
    /// Whether each embedding was compared with that of its text alone.
    pub verify: bool,
    /// The seed of texts and arrivals.
    pub seed: u64,
}

/// The measurements of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepFigures {
    /// The load.
    #[serde(flatten)]
    pub step: Step,
    /// HTTP/2 connections.
    pub connections: usize,
    /// The measured time.
    pub seconds: f64,
    /// Successful requests.
    pub requests: u64,
    /// Texts of successful requests.
    pub texts: u64,
    /// Tokens of those texts, as reported by the server.
    pub tokens: u64,
    /// `requests` per second.
    pub requests_per_s: f64,
    /// `texts` per second.
    pub texts_per_s: f64,
    /// `tokens` per second.
    pub tokens_per_s: f64,
    /// Latency of successful requests, up to the decoded reply: in a closed loop since the request was sent, in an open
    /// loop since it was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Latency of requests that failed with RESOURCE_EXHAUSTED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Latency>,
    /// The number of requests by gRPC code.
    pub codes: BTreeMap<String, u64>,
    /// The message of the first reply with each code except OK.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub messages: BTreeMap<String, String>,
    /// Requests of an open loop that were not sent because too many were in flight.
    pub not_sent: u64,
    /// The fraction of embeddings that came from the server's cache.
    pub cached_share: f64,
    /// Requests whose texts did not have the intended number of tokens.
    pub wrong_length: u64,
    /// Embeddings that differ from those of the same texts alone; `None` if they were not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatches: Option<u64>,
    /// Bytes in the messages of successful requests, without HTTP/2 framing.
    pub sent_bytes: u64,
    /// Bytes in the messages of their replies.
    pub received_bytes: u64,
    /// Where the time went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
    /// CPU time of the load generator divided by wall time: 1 is one whole CPU. `None` if the system does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cpu: Option<f64>,
}

/// Latencies, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are self-explanatory")]
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

/// Where the time of requests went. These are separate medians, so they do not add up exactly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Measured by the server: waiting for a session.
    pub queue_p50_ms: f64,
    /// Measured by the server: running the model.
    pub infer_p50_ms: f64,
    /// Measured by the server: from the decoded request to the finished reply.
    pub total_p50_ms: f64,
    /// From sending the request to the decoded reply, minus `queue` and `infer`: tokenization, gRPC, the network and the
    /// load generator.
    pub overhead_p50_ms: f64,
}

impl Results {
    /// Successful requests in all steps.
    pub fn requests(&self) -> u64 {
        self.steps.iter().map(|step| step.requests).sum()
    }

    /// Embeddings in all steps that differ from those of the same texts alone.
    pub fn mismatches(&self) -> u64 {
        self.steps.iter().filter_map(|step| step.mismatches).sum()
    }
}
