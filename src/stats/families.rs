//! Counters and histograms since the start, with their Prometheus labels.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::{Method, Stage};
use embedd_proto::codes::{Code, code_name};

/// Bucket bounds of durations, from a cache hit to a long request in a full queue; densest around the latency targets.
const SECONDS: [f64; 18] =
    [1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 7.5e-3, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bucket bounds of the texts per batch.
const TEXTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
/// Bucket bounds of the tokens per batch.
const TOKENS: [f64; 12] = [8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16_384.0];

/// A histogram of durations for each set of labels.
pub(super) type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct MethodLabels {
    grpc_method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CallLabels {
    grpc_method: &'static str,
    grpc_status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StageLabels {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct HttpLabels {
    pub(super) http_request_method: &'static str,
    pub(super) http_route: String,
    pub(super) http_response_status_code: u16,
}

/// All counters and histograms; clones share the same numbers.
#[derive(Debug, Clone)]
pub(crate) struct Families {
    pub calls_started: Family<MethodLabels, Counter>,
    /// Durations of finished calls.
    pub call_durations: Durations<CallLabels>,
    pub stage_durations: Durations<StageLabels>,
    /// Durations of finished requests.
    pub http_durations: Durations<HttpLabels>,
    pub batch_texts: Histogram,
    /// Tokens per batch, without padding.
    pub batch_tokens: Histogram,
}

impl Default for Families {
    fn default() -> Self {
        Self {
            calls_started: Family::default(),
            call_durations: Durations::new_with_constructor(durations),
            stage_durations: Durations::new_with_constructor(durations),
            http_durations: Durations::new_with_constructor(durations),
            batch_texts: Histogram::new(TEXTS),
            batch_tokens: Histogram::new(TOKENS),
        }
    }
}

fn durations() -> Histogram {
    Histogram::new(SECONDS)
}

impl Families {
    pub(super) fn calls_started(&self, method: Method) -> Counter {
        self.calls_started.get_or_create_owned(&MethodLabels { grpc_method: method.name() })
    }

    pub(super) fn call_durations(&self, method: Method, code: Code) -> Histogram {
        let labels = CallLabels { grpc_method: method.name(), grpc_status: code_name(code) };
        self.call_durations.get_or_create_owned(&labels)
    }

    pub(super) fn stage(&self, stage: Stage) -> Histogram {
        self.stage_durations.get_or_create_owned(&StageLabels { stage: stage.name() })
    }
}
