//! Embeddings that were computed before, bounded by bytes and age; a text that many ask for at once is computed once.
//!
//! What is kept is the pooled vector before it is cut and normalised: one entry serves every option that only changes
//! how the vector is finished. Its key is a SHA-256 over everything else that the vector depends on.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use moka::future::Cache;
use moka::notification::RemovalCause;
use sha2::{Digest, Sha256};

use crate::stats::CacheStats;

/// What an entry takes beside its vector: its key, moka's own records of it, and what allocations round up to. Measured
/// as growth of resident memory over 100,000 entries of dimension 384.
const OVERHEAD_BYTES: usize = 320;

/// Vectors of texts; cheap to clone, shared by all models that are served.
#[derive(Debug, Clone)]
pub(crate) struct EmbeddingCache {
    entries: Cache<CacheKey, Arc<CachedEmbedding>>,
    capacity_bytes: u64,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

/// What the model made of a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CachedEmbedding {
    /// Not cut, not normalised.
    pub pooled: Box<[f32]>,
    /// Tokens that the model saw.
    pub token_count: usize,
    /// Whether tokens were dropped.
    pub truncated: bool,
}

/// Everything that a pooled vector depends on, digested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey([u8; 32]);

/// Makes the keys of one model as it is served.
#[derive(Debug, Clone)]
pub(crate) struct CacheScope(Sha256);

impl CacheScope {
    /// `parts`: whatever a vector depends on that is the same for all requests, in a fixed order.
    pub(crate) fn new(parts: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            add_part(&mut digest, part);
        }
        Self(digest)
    }

    /// The key of a text; `options`: what the request may choose that changes the pooled vector.
    pub(crate) fn key(&self, options: &[u8], text: &str) -> CacheKey {
        let mut digest = self.0.clone();
        add_part(&mut digest, options);
        digest.update(text.as_bytes());
        CacheKey(digest.finalize().into())
    }
}

/// With its length in front, so that no two lists of parts digest the same bytes.
fn add_part(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_le_bytes());
    digest.update(part);
}

impl EmbeddingCache {
    /// Room for `capacity_bytes`; an entry goes when it is `time_to_live` old.
    pub(crate) fn new(capacity_bytes: u64, time_to_live: Option<Duration>) -> Self {
        let counters = Arc::new(Counters::default());
        let evicted = Arc::clone(&counters);
        let mut builder = Cache::builder()
            .max_capacity(capacity_bytes)
            .weigher(|_, entry: &Arc<CachedEmbedding>| entry.bytes())
            .eviction_listener(move |_, _, cause| {
                if matches!(cause, RemovalCause::Size | RemovalCause::Expired) {
                    evicted.evictions.fetch_add(1, Relaxed);
                }
            });
        if let Some(time) = time_to_live {
            builder = builder.time_to_live(time);
        }
        Self { entries: builder.build(), capacity_bytes, counters }
    }

    /// The entry, where there is one.
    pub(crate) async fn get(&self, key: &CacheKey) -> Option<Arc<CachedEmbedding>> {
        let entry = self.entries.get(key).await;
        let counter = if entry.is_some() { &self.counters.hits } else { &self.counters.misses };
        counter.fetch_add(1, Relaxed);
        entry
    }

    /// The entry, computed where it is missing, and whether this call did not compute it: of all who ask for one key at
    /// the same time, one computes. Where that one is dropped, the next one computes; where it fails, all of them fail.
    ///
    /// # Errors
    /// The computation's.
    pub(crate) async fn get_or_compute<E: Clone + Send + Sync + 'static>(
        &self,
        key: CacheKey,
        compute: impl Future<Output = Result<CachedEmbedding, E>>,
    ) -> Result<(Arc<CachedEmbedding>, bool), E> {
        let entry = self.entries.entry(key).or_try_insert_with(async { compute.await.map(Arc::new) }).await;
        match entry {
            Ok(entry) => Ok((Arc::clone(entry.value()), !entry.is_fresh())),
            Err(error) => Err(E::clone(&error)),
        }
    }

    /// Drops every entry, and says how many there were.
    pub(crate) async fn clear(&self) -> u64 {
        self.entries.run_pending_tasks().await;
        let entries = self.entries.entry_count();
        self.entries.invalidate_all();
        self.entries.run_pending_tasks().await;
        entries
    }

    /// What there is now.
    pub(crate) async fn stats(&self) -> CacheStats {
        self.entries.run_pending_tasks().await;
        let Counters { hits, misses, evictions } = &*self.counters;
        CacheStats {
            hits: hits.load(Relaxed),
            misses: misses.load(Relaxed),
            evictions: evictions.load(Relaxed),
            entries: self.entries.entry_count(),
            bytes: self.entries.weighted_size(),
            capacity_bytes: self.capacity_bytes,
        }
    }
}

impl CachedEmbedding {
    fn bytes(&self) -> u32 {
        u32::try_from(size_of_val::<[f32]>(&self.pooled) + OVERHEAD_BYTES).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
