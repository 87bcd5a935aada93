//! The state of the queue, the sessions and the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::histogram::Histogram;

/// The queue and its batches. Counters and means are since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct QueueStats {
    /// Texts queued now.
    pub depth: usize,
    /// Maximum number of queued texts.
    pub capacity: usize,
    /// Texts refused because the queue was full.
    pub refused: u64,
    /// Texts dropped before inference because their caller had disconnected.
    pub abandoned: u64,
    /// Texts per batch; 0 before the first batch.
    pub mean_batch_texts: f64,
    /// Tokens per batch, without padding; 0 before the first batch.
    pub mean_batch_tokens: f64,
}

/// The sessions of the model being served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SessionStats {
    /// Sessions in the pool.
    pub total: usize,
    /// Sessions running a batch.
    pub busy: usize,
    /// Threads per session.
    pub threads: usize,
}

/// The cache of embeddings. Counters are since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CacheStats {
    /// Texts found in the cache.
    pub hits: u64,
    /// Texts not found in the cache.
    pub misses: u64,
    /// Entries removed to free space or because they expired.
    pub evictions: u64,
    /// Entries in the cache now.
    pub entries: u64,
    /// Memory used by the entries.
    pub bytes: u64,
    /// Maximum memory for the entries.
    pub capacity_bytes: u64,
}

/// Batches since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BatchTotals {
    pub batches: u64,
    pub texts: u64,
    /// Without padding.
    pub tokens: u64,
}

/// The counters of batchers; a handle that is cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BatchCounters(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    batch_texts: Histogram,
    batch_tokens: Histogram,
    refused: AtomicU64,
    abandoned: AtomicU64,
    batches: AtomicU64,
    texts: AtomicU64,
    tokens: AtomicU64,
}

impl BatchCounters {
    pub(super) fn new(batch_texts: Histogram, batch_tokens: Histogram) -> Self {
        let zero = AtomicU64::default;
        Self(Arc::new(Counts {
            batch_texts,
            batch_tokens,
            refused: zero(),
            abandoned: zero(),
            batches: zero(),
            texts: zero(),
            tokens: zero(),
        }))
    }

    /// Counts texts refused because the queue was full.
    pub(crate) fn count_refused(&self, texts: usize) {
        self.0.refused.fetch_add(texts as u64, Ordering::Relaxed);
    }

    /// Counts texts dropped because their caller had disconnected.
    pub(crate) fn count_abandoned(&self, texts: usize) {
        self.0.abandoned.fetch_add(texts as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_batch(&self, texts: usize, tokens: usize) {
        self.0.batches.fetch_add(1, Ordering::Relaxed);
        self.0.texts.fetch_add(texts as u64, Ordering::Relaxed);
        self.0.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        self.0.batch_texts.observe(texts as f64);
        self.0.batch_tokens.observe(tokens as f64);
    }

    pub(crate) fn totals(&self) -> BatchTotals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { batches, texts, tokens, .. } = &*self.0;
        BatchTotals { batches: read(batches), texts: read(texts), tokens: read(tokens) }
    }

    /// The counters together with the current state of the queue.
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
