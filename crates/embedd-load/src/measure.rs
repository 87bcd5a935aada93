//! Counts and latencies of a step.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use prost::bytes::Bytes;
use prost_types::Duration as WireDuration;
use tonic::{Code, Status};

use super::figures::{Latency, StepFigures, Times};
use super::plan::Step;
use super::texts::Draw;
use super::wire::{Reply, code_name};

/// Of each latency, so that the error of the histogram is below 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;
/// In nanoseconds: from one microsecond to one hour. Times outside this range are clamped to it.
const RANGE: (u64, u64) = (1_000, 3_600_000_000_000);
const NANOSECONDS_OF_MS: f64 = 1e6;

/// The counters of a running step.
pub(crate) struct Measure {
    latency: Nanoseconds,
    refused: Nanoseconds,
    queue: Nanoseconds,
    infer: Nanoseconds,
    total: Nanoseconds,
    overhead: Nanoseconds,
    texts: u64,
    tokens: u64,
    cached: u64,
    mismatches: u64,
    wrong_length: u64,
    not_sent: u64,
    sent_bytes: u64,
    received_bytes: u64,
    failed: BTreeMap<&'static str, (u64, String)>,
    /// When the last counted reply arrived.
    last: Option<Instant>,
}

/// A successful request.
pub(crate) struct Answered<'a> {
    pub(crate) draw: &'a Draw,
    pub(crate) sent_bytes: usize,
    pub(crate) reply: &'a Reply,
    pub(crate) received_bytes: usize,
    /// Time since the request was due.
    pub(crate) latency: Duration,
    /// Time since the request was sent.
    pub(crate) elapsed: Duration,
    pub(crate) at: Instant,
}

/// A histogram of durations.
struct Nanoseconds(Histogram<u64>);

impl Nanoseconds {
    fn new() -> Self {
        let histogram = Histogram::new_with_bounds(RANGE.0, RANGE.1, SIGNIFICANT_DIGITS);
        Self(histogram.unwrap_or_else(|error| unreachable!("a valid range and 3 digits: {error}")))
    }

    fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / NANOSECONDS_OF_MS
    }

    fn latency(&self) -> Option<Latency> {
        (!self.0.is_empty()).then(|| Latency {
            count: self.0.len(),
            mean_ms: self.0.mean() / NANOSECONDS_OF_MS,
            min_ms: self.0.min() as f64 / NANOSECONDS_OF_MS,
            p50_ms: self.ms(0.5),
            p90_ms: self.ms(0.9),
            p95_ms: self.ms(0.95),
            p99_ms: self.ms(0.99),
            p99_9_ms: self.ms(0.999),
            max_ms: self.0.max() as f64 / NANOSECONDS_OF_MS,
        })
    }
}

impl Measure {
    pub(crate) fn new() -> Self {
        let times = Nanoseconds::new;
        Self {
            latency: times(),
            refused: times(),
            queue: times(),
            infer: times(),
            total: times(),
            overhead: times(),
            texts: 0,
            tokens: 0,
            cached: 0,
            mismatches: 0,
            wrong_length: 0,
            not_sent: 0,
            sent_bytes: 0,
            received_bytes: 0,
            failed: BTreeMap::new(),
            last: None,
        }
    }

    /// Counts a successful request. `expected` has the embedding of each text in the list, computed alone.
    pub(crate) fn answered(&mut self, answered: &Answered<'_>, expected: Option<&[Bytes]>) {
        let Answered { draw, reply, .. } = answered;
        let tokens = reply.embeddings.iter().map(|embedding| embedding.token_count).sum::<u32>();
        self.last = self.last.max(Some(answered.at));
        self.latency.record(answered.latency);
        self.texts += reply.embeddings.len() as u64;
        self.tokens += u64::from(tokens);
        self.cached += reply.embeddings.iter().filter(|embedding| embedding.cached).count() as u64;
        self.wrong_length += u64::from(draw.tokens.is_some_and(|wanted| wanted != tokens));
        self.sent_bytes += answered.sent_bytes as u64;
        self.received_bytes += answered.received_bytes as u64;
        if let Some(timings) = &reply.timings {
            let [queue, infer, total] = [&timings.queue, &timings.infer, &timings.total].map(duration);
            self.queue.record(queue);
            self.infer.record(infer);
            self.total.record(total);
            self.overhead.record(answered.elapsed.saturating_sub(queue + infer));
        }
        if let Some(expected) = expected {
            let pairs = draw.indices.iter().zip(&reply.embeddings);
            self.mismatches += pairs.filter(|(index, embedding)| expected[**index] != *embedding.bits()).count() as u64;
        }
    }

    /// Counts a failed request.
    pub(crate) fn failed(&mut self, status: &Status, elapsed: Duration, at: Instant) {
        self.last = self.last.max(Some(at));
        if status.code() == Code::ResourceExhausted {
            self.refused.record(elapsed);
        }
        self.failed.entry(code_name(status.code())).or_insert_with(|| (0, status.message().to_owned())).0 += 1;
    }

    /// Counts a request that was due but not sent.
    pub(crate) fn not_sent(&mut self) {
        self.not_sent += 1;
    }

    /// When the last counted reply arrived.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// The measurements over the `elapsed` time. `verified`: whether embeddings were compared.
    pub(crate) fn figures(&self, step: Step, connections: usize, elapsed: Duration, verified: bool) -> StepFigures {
        let requests = self.latency.0.len();
        let per_second = |count: u64| count as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let answered = (requests > 0).then(|| (code_name(Code::Ok).to_owned(), requests));
        let failed = self.failed.iter().map(|(code, (count, _))| ((*code).to_owned(), *count));
        let messages = self.failed.iter().map(|(code, (_, message))| ((*code).to_owned(), message.clone()));
        StepFigures {
            step,
            connections,
            seconds: elapsed.as_secs_f64(),
            requests,
            texts: self.texts,
            tokens: self.tokens,
            requests_per_s: per_second(requests),
            texts_per_s: per_second(self.texts),
            tokens_per_s: per_second(self.tokens),
            latency: self.latency.latency(),
            refused: self.refused.latency(),
            codes: answered.into_iter().chain(failed).collect(),
            messages: messages.collect(),
            not_sent: self.not_sent,
            cached_share: if self.texts == 0 { 0.0 } else { self.cached as f64 / self.texts as f64 },
            wrong_length: self.wrong_length,
            mismatches: verified.then_some(self.mismatches),
            sent_bytes: self.sent_bytes,
            received_bytes: self.received_bytes,
            times: self.times(),
            client_cpu: None,
        }
    }

    fn times(&self) -> Option<Times> {
        (!self.total.0.is_empty()).then(|| Times {
            queue_p50_ms: self.queue.ms(0.5),
            infer_p50_ms: self.infer.ms(0.5),
            total_p50_ms: self.total.ms(0.5),
            overhead_p50_ms: self.overhead.ms(0.5),
        })
    }
}

/// A duration from a reply. Missing or negative values become zero.
fn duration(wire: &Option<WireDuration>) -> Duration {
    wire.and_then(|wire| Duration::try_from(wire).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
