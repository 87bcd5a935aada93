use std::sync::atomic::AtomicUsize;

use futures_util::future::join_all;
use tokio::sync::Notify;

use super::*;

fn embedding(value: f32) -> CachedEmbedding {
    CachedEmbedding { pooled: vec![value; 8].into(), token_count: 3, truncated: false }
}

fn key(text: &str) -> CacheKey {
    CacheScope::new(&[b"model"]).key(&[0], text)
}

#[test]
fn a_key_depends_on_every_part_and_its_boundaries() {
    let keys = [
        CacheScope::new(&[b"ab", b"c"]).key(&[0], "text"),
        CacheScope::new(&[b"a", b"bc"]).key(&[0], "text"),
        CacheScope::new(&[b"abc"]).key(&[0], "text"),
        CacheScope::new(&[b"abc", b""]).key(&[0], "text"),
        CacheScope::new(&[b"ab", b"c"]).key(&[1], "text"),
        CacheScope::new(&[b"ab", b"c"]).key(&[], "\0text"),
        CacheScope::new(&[b"ab", b"c"]).key(&[0], "text "),
        CacheScope::new(&[b"ab", b"c"]).key(&[0], ""),
    ];
    for (index, a) in keys.iter().enumerate() {
        assert!(keys[index + 1..].iter().all(|b| a != b), "key {index} is unique");
    }
    assert_eq!(CacheScope::new(&[b"ab", b"c"]).key(&[0], "text"), keys[0]);
}

#[tokio::test]
async fn computed_entries_are_found_and_counted() {
    let cache = EmbeddingCache::new(1 << 20, None);
    assert_eq!(cache.get(&key("a")).await, None);
    let computed = cache.get_or_compute(key("a"), async { Ok::<_, ()>(embedding(1.0)) }).await;
    let (computed, shared) = computed.expect("an embedding");
    assert_eq!((&*computed, shared), (&embedding(1.0), false));
    assert_eq!(cache.get(&key("a")).await, Some(computed));
    let stats = cache.stats().await;
    assert_eq!((stats.hits, stats.misses, stats.entries, stats.evictions), (1, 1, 1, 0));
    assert_eq!((stats.bytes, stats.capacity_bytes), (8 * 4 + OVERHEAD_BYTES as u64, 1 << 20));
    assert_eq!(cache.clear().await, 1);
    assert_eq!((cache.get(&key("a")).await, cache.stats().await.entries), (None, 0));
}

#[tokio::test]
async fn a_hundred_concurrent_calls_share_one_computation() {
    let cache = EmbeddingCache::new(1 << 20, None);
    let computations = AtomicUsize::new(0);
    let calls = (0..100).map(|_| {
        cache.get_or_compute(key("a"), async {
            computations.fetch_add(1, Relaxed);
            tokio::task::yield_now().await;
            Ok::<_, ()>(embedding(2.0))
        })
    });
    let answers: Vec<_> = join_all(calls).await.into_iter().map(|answer| answer.expect("an embedding")).collect();
    assert_eq!(computations.load(Relaxed), 1);
    assert!(answers.iter().all(|(found, _)| **found == embedding(2.0)));
    assert_eq!(answers.iter().filter(|(_, shared)| !shared).count(), 1, "only one computed it");
}

#[tokio::test]
async fn another_call_takes_over_if_the_computing_one_is_dropped() {
    let cache = EmbeddingCache::new(1 << 20, None);
    let started = Arc::new(Notify::new());
    let dropped = tokio::spawn({
        let cache = cache.clone();
        let started = Arc::clone(&started);
        async move {
            let never = async {
                started.notify_one();
                std::future::pending::<Result<CachedEmbedding, ()>>().await
            };
            cache.get_or_compute(key("a"), never).await
        }
    });
    started.notified().await;
    let other = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_compute(key("a"), async { Ok::<_, ()>(embedding(3.0)) }).await }
    });
    tokio::task::yield_now().await;
    dropped.abort();
    let (found, _) = other.await.expect("no panic").expect("an embedding");
    assert_eq!(*found, embedding(3.0));
}

#[tokio::test]
async fn errors_are_returned_and_not_cached() {
    let cache = EmbeddingCache::new(1 << 20, None);
    assert_eq!(cache.get_or_compute(key("a"), async { Err("no") }).await, Err("no"));
    let (found, _) =
        cache.get_or_compute(key("a"), async { Ok::<_, &str>(embedding(4.0)) }).await.expect("an embedding");
    assert_eq!(*found, embedding(4.0));
}

#[tokio::test]
async fn the_cache_is_bounded_in_bytes() {
    let capacity = 100 * (8 * 4 + OVERHEAD_BYTES as u64);
    let cache = EmbeddingCache::new(capacity, None);
    for index in 0..1000 {
        cache.get_or_compute(key(&index.to_string()), async { Ok::<_, ()>(embedding(0.0)) }).await.expect("an entry");
    }
    let stats = cache.stats().await;
    assert!(stats.bytes <= capacity && stats.entries <= 100 && stats.evictions >= 900, "{stats:?}");
}
