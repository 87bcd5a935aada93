use super::*;
use crate::caller::CallerId;

fn embedding(value: f32) -> CachedEmbedding {
    CachedEmbedding { pooled: vec![value; 8].into(), token_count: 3, truncated: false }
}

fn key(text: &str) -> CacheKey {
    CacheScope::new(&[b"model"]).key(&[0], "", text)
}

#[test]
fn a_key_depends_on_every_part_and_its_boundaries() {
    let keys = [
        CacheScope::new(&[b"ab", b"c"]).key(&[0], "", "text"),
        CacheScope::new(&[b"a", b"bc"]).key(&[0], "", "text"),
        CacheScope::new(&[b"abc"]).key(&[0], "", "text"),
        CacheScope::new(&[b"abc", b""]).key(&[0], "", "text"),
        CacheScope::new(&[b"ab", b"c"]).key(&[1], "", "text"),
        CacheScope::new(&[b"ab", b"c"]).key(&[], "", "\0text"),
        CacheScope::new(&[b"ab", b"c"]).key(&[0], "", "text "),
        CacheScope::new(&[b"ab", b"c"]).key(&[0], "", ""),
        CacheScope::new(&[b"ab", b"c"]).key(&[0], "te", "xt"),
        CacheScope::new(&[b"ab", b"c"]).key(&[0], "tex", "t"),
        CacheScope::new(&[b"ab", b"c"]).key(&[0], "text", ""),
    ];
    for (index, a) in keys.iter().enumerate() {
        assert!(keys[index + 1..].iter().all(|b| a != b), "key {index} is unique");
    }
    assert_eq!(CacheScope::new(&[b"ab", b"c"]).key(&[0], "", "text"), keys[0]);
}

#[tokio::test]
async fn inserted_entries_are_found_and_counted() {
    let cache = EmbeddingCache::new(1 << 20, None, CacheSharing::Shared);
    assert_eq!(cache.get(&key("a")).await, None);
    let computed = Arc::new(embedding(1.0));
    cache.insert(key("a"), Arc::clone(&computed)).await;
    assert_eq!(cache.peek(&key("a")).await.as_ref(), Some(&computed), "not counted as a hit");
    assert_eq!(cache.get(&key("a")).await, Some(computed));
    let stats = cache.stats().await;
    assert_eq!((stats.hits, stats.misses, stats.entries, stats.evictions), (1, 1, 1, 0));
    assert_eq!((stats.bytes, stats.capacity_bytes), (8 * 4 + OVERHEAD_BYTES as u64, 1 << 20));
    assert_eq!(cache.clear().await, 1);
    assert_eq!((cache.get(&key("a")).await, cache.stats().await.entries), (None, 0));
}

#[tokio::test]
async fn the_cache_is_bounded_in_bytes() {
    let capacity = 100 * (8 * 4 + OVERHEAD_BYTES as u64);
    let cache = EmbeddingCache::new(capacity, None, CacheSharing::Shared);
    for index in 0..1000 {
        cache.insert(key(&index.to_string()), Arc::new(embedding(0.0))).await;
    }
    let stats = cache.stats().await;
    assert!(stats.bytes <= capacity && stats.entries <= 100 && stats.evictions >= 900, "{stats:?}");
}

#[test]
fn callers_with_a_token_or_certificate_have_their_own_scope_if_entries_are_not_shared() {
    let caller = |id| Caller { id, ..Caller::server() };
    let ids = [
        CallerId::Token([1; 32]),
        CallerId::Token([2; 32]),
        CallerId::Certificate([1; 32]),
        CallerId::Connection(1),
        CallerId::Connection(2),
    ];
    let scopes = |sharing| {
        let cache = EmbeddingCache::new(1 << 20, None, sharing);
        ids.map(|id| cache.scope_of(&caller(id)).map(|(kind, digest)| (kind, digest[0])))
    };
    assert_eq!(scopes(CacheSharing::Shared), [None; 5]);
    assert_eq!(scopes(CacheSharing::Caller), [Some((1, 1)), Some((1, 2)), Some((2, 1)), None, None]);
}
