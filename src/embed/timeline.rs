//! Where the time of a request goes: as durations for its caller and the statistics, as intervals for its trace.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Embedded;
use crate::batch::Inferred;
use crate::stats::{Stage, Stats};
use crate::trace::{Attribute, Interval, Span};

/// Where the time of a request went. Vectors from the cache take neither `queue` nor `infer`.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs, reason = "the fields are the stages")]
pub(crate) struct Timings {
    pub tokenize: Duration,
    pub queue: Duration,
    pub infer: Duration,
    pub total: Duration,
}

/// When a request's own texts went through the stages. Those that the cache had went through none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Course {
    whole: Option<Interval>,
    tokenize: Option<Interval>,
    /// Of the text that waited longest.
    queue: Option<Interval>,
    /// Each batch once, however many of the texts were in it.
    batches: BTreeMap<u64, Batch>,
}

#[derive(Debug, Clone, Copy)]
struct Batch {
    ran: Interval,
    /// Those of other requests included.
    texts: usize,
}

impl Timings {
    /// Tells how long the stages of the request took.
    pub(crate) fn record(&self, stats: &Stats) {
        stats.record_stage(Stage::Tokenize, self.tokenize);
        stats.record_stage(Stage::Queue, self.queue);
        stats.record_stage(Stage::Infer, self.infer);
    }
}

impl Course {
    pub(super) fn tokenized_since(&mut self, begun: Instant) {
        self.tokenize = Some(Interval::since(begun));
    }

    pub(super) fn inferred(&mut self, text: &Inferred) {
        let waited = Interval { begun: text.enqueued, took: text.queue };
        if self.queue.is_none_or(|longest| longest.took < waited.took) {
            self.queue = Some(waited);
        }
        let ran = Interval { begun: text.enqueued + text.queue, took: text.infer };
        self.batches.insert(text.batch, Batch { ran, texts: text.batch_texts });
    }

    /// The request is done.
    pub(super) fn end(&mut self, begun: Instant) -> Timings {
        let whole = Interval::since(begun);
        self.whole = Some(whole);
        let took = |stage: Option<Interval>| stage.map_or(Duration::ZERO, |stage| stage.took);
        Timings {
            tokenize: took(self.tokenize),
            queue: took(self.queue),
            infer: self.batches.values().map(|batch| batch.ran.took).sum(),
            total: whole.took,
        }
    }
}

impl Embedded {
    /// Adds the request and its stages to the trace of its call.
    pub(crate) fn trace(&self, call: &Span) {
        let Some(whole) = self.course.whole.filter(|_| call.is_recorded()) else { return };
        let cached = self.embeddings.iter().filter(|embedding| embedding.cached).count();
        let tokens = self.embeddings.iter().map(|embedding| embedding.token_count).sum();
        let request = call.child(
            "embed",
            whole,
            vec![
                number("embedd.texts", self.embeddings.len()),
                number("embedd.tokens", tokens),
                number("embedd.cached_texts", cached),
            ],
        );
        let Course { tokenize, queue, batches, .. } = &self.course;
        for (stage, interval) in [(Stage::Tokenize, tokenize), (Stage::Queue, queue)] {
            if let Some(interval) = interval {
                request.child(stage.name(), *interval, Vec::new());
            }
        }
        for (batch, Batch { ran, texts }) in batches {
            let attributes = vec![Attribute::new("embedd.batch", *batch as i64), number("embedd.batch_texts", *texts)];
            request.child(Stage::Infer.name(), *ran, attributes);
        }
    }
}

fn number(key: &'static str, number: usize) -> Attribute {
    Attribute::new(key, number as i64)
}
