//! The cache of embeddings, bounded in bytes and age.
//!
//! Entries hold the pooled vector before it is cut and normalized, so that one entry serves all options that only
//! change how the vector is finished. The key is a SHA-256 over everything else that the vector depends on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use moka::future::Cache;
use moka::notification::RemovalCause;
use sha2::{Digest, Sha256};

use crate::blocking::block_in_place_if;
use crate::caller::Caller;
use crate::stats::CacheStats;

/// Memory of an entry besides its vector: the key, moka's bookkeeping and rounding by the allocator. Measured as growth
/// of resident memory over 100,000 entries of dimension 384.
const OVERHEAD_BYTES: usize = 320;

/// Hashing a longer text takes more than a millisecond on CPUs without instructions for SHA-256.
const INLINE_BYTES: usize = 256 * 1024;
/// Distinguishes keys of token ids. No list of options begins like this.
const TOKEN_IDS: &[u8] = b"token ids";

/// Shared by all models being served; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct EmbeddingCache {
    entries: Cache<CacheKey, Arc<CachedEmbedding>>,
    capacity_bytes: u64,
    sharing: CacheSharing,
    counters: Arc<Counters>,
}

/// Who shares the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheSharing {
    /// All callers.
    Shared,
    /// Calls with the same token or client certificate. Those without either share one scope.
    Caller,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CachedEmbedding {
    /// The model's output, neither cut nor normalized.
    pub pooled: Arc<[f32]>,
    /// Tokens that the model processed.
    pub token_count: usize,
    /// Whether tokens were dropped.
    pub truncated: bool,
}

/// A digest of everything that a pooled vector depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey(pub [u8; 32]);

/// Creates the keys of one model.
#[derive(Debug, Clone)]
pub(crate) struct CacheScope(Sha256);

impl CacheScope {
    /// `parts`, in a fixed order, are everything that a vector depends on apart from the request.
    pub(crate) fn new(parts: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            add_part(&mut digest, part);
        }
        Self(digest)
    }

    /// The key of a text with a prompt; `options` are those of the request that change the pooled vector.
    pub(crate) fn key(&self, options: &[u8], prompt: &str, text: &str) -> CacheKey {
        let mut digest = self.0.clone();
        add_part(&mut digest, options);
        add_part(&mut digest, prompt.as_bytes());
        block_in_place_if(text.len() > INLINE_BYTES, || digest.update(text.as_bytes()));
        CacheKey(digest.finalize().into())
    }

    /// The key of a text that is given by the ids of its tokens. It differs from the keys of all texts.
    pub(crate) fn key_of_ids(&self, options: &[u8], prompt: &str, ids: &[u32]) -> CacheKey {
        let mut digest = self.0.clone();
        add_part(&mut digest, TOKEN_IDS);
        add_part(&mut digest, options);
        add_part(&mut digest, prompt.as_bytes());
        ids.iter().for_each(|id| digest.update(id.to_le_bytes()));
        CacheKey(digest.finalize().into())
    }
}

/// Prefixes the part with its length, so that different lists of parts have different digests.
fn add_part(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_le_bytes());
    digest.update(part);
}

impl EmbeddingCache {
    /// A cache of at most `capacity_bytes`, whose entries expire after `time_to_live`.
    pub(crate) fn new(capacity_bytes: u64, time_to_live: Option<Duration>, sharing: CacheSharing) -> Self {
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
        Self { entries: builder.build(), capacity_bytes, sharing, counters }
    }

    /// The caller's own scope, unless all callers share their entries.
    pub(crate) fn scope_of<'c>(&self, caller: &'c Caller) -> Option<(u8, &'c [u8; 32])> {
        match self.sharing {
            CacheSharing::Shared => None,
            CacheSharing::Caller => caller.id.cache_scope(),
        }
    }

    /// Looks up an entry and counts the hit or miss.
    pub(crate) async fn get(&self, key: &CacheKey) -> Option<Arc<CachedEmbedding>> {
        let entry = self.entries.get(key).await;
        let counter = if entry.is_some() { &self.counters.hits } else { &self.counters.misses };
        counter.fetch_add(1, Relaxed);
        entry
    }

    /// Looks up an entry again, after [`get`](Self::get) has counted it.
    pub(crate) async fn peek(&self, key: &CacheKey) -> Option<Arc<CachedEmbedding>> {
        self.entries.get(key).await
    }

    pub(crate) async fn insert(&self, key: CacheKey, embedding: Arc<CachedEmbedding>) {
        self.entries.insert(key, embedding).await;
    }

    /// Removes all entries and returns how many there were.
    pub(crate) async fn clear(&self) -> u64 {
        self.entries.run_pending_tasks().await;
        let entries = self.entries.entry_count();
        self.entries.invalidate_all();
        self.entries.run_pending_tasks().await;
        entries
    }

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
