//! Where the time of a request goes: durations for its response and the statistics, intervals for its trace.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use super::Embedded;
use crate::batch::Inferred;
use crate::stats::{Stage, Stats};
use crate::trace::{Attribute, Interval, Span};

/// How long a request spent in each stage. Vectors from the cache spend no time in `queue` and `infer`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timings {
    pub tokenize: Duration,
    pub queue: Duration,
    pub infer: Duration,
    pub total: Duration,
}

/// When the texts of a request passed through the stages. Texts found in the cache pass through none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timeline {
    request: Option<Interval>,
    tokenize: Option<Interval>,
    /// The interval of the text that waited longest.
    queue: Option<Interval>,
    /// Each batch once, no matter how many of the texts were in it.
    batches: BTreeMap<u64, Batch>,
}

#[derive(Debug, Clone, Copy)]
struct Batch {
    inference: Interval,
    /// Texts in the batch, including those of other requests.
    texts: usize,
}

impl AddAssign for Timings {
    fn add_assign(&mut self, other: Self) {
        self.tokenize += other.tokenize;
        self.queue += other.queue;
        self.infer += other.infer;
        self.total += other.total;
    }
}

impl Timings {
    pub(crate) fn record(&self, stats: &Stats) {
        stats.record_stage(Stage::Tokenize, self.tokenize);
        stats.record_stage(Stage::Queue, self.queue);
        stats.record_stage(Stage::Infer, self.infer);
    }
}

impl Timeline {
    pub(super) fn tokenized_since(&mut self, start: Instant) {
        self.tokenize = Some(Interval::since(start));
    }

    pub(super) fn inferred(&mut self, text: &Inferred) {
        let queued = Interval { start: text.enqueued, duration: text.queue };
        if self.queue.is_none_or(|longest| longest.duration < queued.duration) {
            self.queue = Some(queued);
        }
        let inference = Interval { start: text.enqueued + text.queue, duration: text.infer };
        self.batches.insert(text.batch, Batch { inference, texts: text.batch_texts });
    }

    /// Ends the request that began at `start`.
    pub(super) fn end(&mut self, start: Instant) -> Timings {
        let request = Interval::since(start);
        self.request = Some(request);
        let duration = |stage: Option<Interval>| stage.map_or(Duration::ZERO, |stage| stage.duration);
        Timings {
            tokenize: duration(self.tokenize),
            queue: duration(self.queue),
            infer: self.batches.values().map(|batch| batch.inference.duration).sum(),
            total: request.duration,
        }
    }
}

impl Embedded {
    /// Adds the request and its stages to the trace of its call.
    pub(crate) fn trace(&self, call: &Span) {
        let Some(request) = self.timeline.request.filter(|_| call.is_recorded()) else { return };
        let cached = self.embeddings.iter().filter(|embedding| embedding.cached).count();
        let tokens = self.embeddings.iter().map(|embedding| embedding.token_count).sum();
        let span = call.child(
            "embed",
            request,
            vec![
                number("embedd.texts", self.embeddings.len()),
                number("embedd.tokens", tokens),
                number("embedd.cached_texts", cached),
            ],
        );
        let Timeline { tokenize, queue, batches, .. } = &self.timeline;
        for (stage, interval) in [(Stage::Tokenize, tokenize), (Stage::Queue, queue)] {
            if let Some(interval) = interval {
                span.child(stage.name(), *interval, Vec::new());
            }
        }
        for (batch, Batch { inference, texts }) in batches {
            let attributes = vec![Attribute::new("embedd.batch", *batch as i64), number("embedd.batch_texts", *texts)];
            span.child(Stage::Infer.name(), *inference, attributes);
        }
    }
}

fn number(key: &'static str, number: usize) -> Attribute {
    Attribute::new(key, number as i64)
}
