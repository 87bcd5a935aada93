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
async fn inserted_entries_are_found_and_counted() {
    let cache = EmbeddingCache::new(1 << 20, None);
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
    let cache = EmbeddingCache::new(capacity, None);
    for index in 0..1000 {
        cache.insert(key(&index.to_string()), Arc::new(embedding(0.0))).await;
    }
    let stats = cache.stats().await;
    assert!(stats.bytes <= capacity && stats.entries <= 100 && stats.evictions >= 900, "{stats:?}");
}
