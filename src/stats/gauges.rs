//! What the parts of the request path tell of themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::histogram::Histogram;

/// The queue, and the batches that are made of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct QueueStats {
    /// Texts that wait now.
    pub depth: usize,
    /// Texts that may wait.
    pub capacity: usize,
    /// Texts that found the queue full, since the start.
    pub refused: u64,
    /// Texts that nobody waited for any more before they were computed, since the start.
    pub abandoned: u64,
    /// Texts of a batch, on average since the start; 0 before the first.
    pub mean_batch_texts: f64,
    /// Tokens of a batch without padding, on average since the start; 0 before the first.
    pub mean_batch_tokens: f64,
}

/// The sessions of the model that is served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SessionStats {
    /// Sessions in the pool.
    pub total: usize,
    /// Sessions that run a batch now.
    pub busy: usize,
    /// Threads of each.
    pub threads: usize,
}

/// The cache of embeddings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CacheStats {
    /// Texts that it had, since the start.
    pub hits: u64,
    /// Texts that it did not have, since the start.
    pub misses: u64,
    /// Entries that had to make room, since the start.
    pub evictions: u64,
    /// Entries now.
    pub entries: u64,
    /// Bytes of the entries.
    pub bytes: u64,
    /// Bytes that entries may have.
    pub capacity_bytes: u64,
}

/// What batchers count; a handle that is cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BatchCounters(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    texts_of_each: Histogram,
    tokens_of_each: Histogram,
    refused: AtomicU64,
    abandoned: AtomicU64,
    batches: AtomicU64,
    texts: AtomicU64,
    tokens: AtomicU64,
}

impl BatchCounters {
    pub(super) fn new(texts_of_each: Histogram, tokens_of_each: Histogram) -> Self {
        let zero = AtomicU64::default;
        Self(Arc::new(Counts {
            texts_of_each,
            tokens_of_each,
            refused: zero(),
            abandoned: zero(),
            batches: zero(),
            texts: zero(),
            tokens: zero(),
        }))
    }

    /// So many texts found the queue full.
    pub(crate) fn refused(&self, texts: usize) {
        self.0.refused.fetch_add(texts as u64, Ordering::Relaxed);
    }

    /// So many texts were dropped, because nobody waited for them any more.
    pub(crate) fn abandoned(&self, texts: usize) {
        self.0.abandoned.fetch_add(texts as u64, Ordering::Relaxed);
    }

    /// A batch has been made.
    pub(crate) fn batch(&self, texts: usize, tokens: usize) {
        self.0.batches.fetch_add(1, Ordering::Relaxed);
        self.0.texts.fetch_add(texts as u64, Ordering::Relaxed);
        self.0.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        self.0.texts_of_each.observe(texts as f64);
        self.0.tokens_of_each.observe(tokens as f64);
    }

    /// With the gauges of the queue that there is now.
    pub(crate) fn with_queue(&self, depth: usize, capacity: usize) -> QueueStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let batches = read(&self.0.batches);
        let mean = |counter| if batches == 0 { 0.0 } else { read(counter) as f64 / batches as f64 };
        QueueStats {
            depth,
            capacity,
            refused: read(&self.0.refused),
            abandoned: read(&self.0.abandoned),
            mean_batch_texts: mean(&self.0.texts),
            mean_batch_tokens: mean(&self.0.tokens),
        }
    }
}
