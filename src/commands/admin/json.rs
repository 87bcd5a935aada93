//! Replies as JSON, with durations in milliseconds and status codes by name.

use serde_json::{Map, Value, json};

use embedd_proto::codes::code_name;
use embedd_proto::{
    BenchmarkResult, ClearCacheResponse, GetStatsResponse, Latency, ReloadModelResponse, ValidateResponse,
};

pub(super) fn validation(found: &ValidateResponse) -> Value {
    let texts = found.texts.iter().map(|text| {
        json!({
            "index": text.index,
            "id": text.id,
            "cosine": text.cosine,
            "mse": text.mse,
            "passed": text.passed,
        })
    });
    json!({
        "passed": found.passed,
        "threshold": found.threshold,
        "min_cosine": found.min_cosine,
        "p1_cosine": found.p1_cosine,
        "mean_cosine": found.mean_cosine,
        "max_mse": found.max_mse,
        "mean_mse": found.mean_mse,
        "left_out": found.left_out,
        "texts": texts.collect::<Vec<_>>(),
    })
}

pub(super) fn benchmark(result: &BenchmarkResult) -> Value {
    let rows = result.rows.iter().map(|row| {
        json!({
            "tokens": row.token_count,
            "batch": row.batch_size,
            "concurrency": row.concurrency,
            "latency": row.latency.as_ref().map(latency),
            "texts_per_s": row.texts_per_second,
            "tokens_per_s": row.tokens_per_second,
        })
    });
    json!({ "rows": rows.collect::<Vec<_>>() })
}

pub(super) fn stats(stats: &GetStatsResponse) -> Value {
    let named = |(&code, &count): (&i32, &u64)| (code_name(code).to_owned(), count.into());
    let methods = stats.methods.iter().map(|one| {
        let replies: Map<String, Value> = one.replies.iter().map(named).collect();
        let found = json!({ "replies": replies, "latency": one.latency.as_ref().map(latency) });
        (one.method.clone(), found)
    });
    let stages = stats.stages.iter().map(|one| (one.stage.clone(), one.latency.as_ref().map(latency).into()));
    json!({
        "uptime_s": stats.uptime.as_ref().map(seconds),
        "window_s": stats.window.as_ref().map(seconds),
        "methods": methods.collect::<Map<_, _>>(),
        "stages": stages.collect::<Map<String, Value>>(),
        "queue": stats.queue.as_ref().map(|queue| json!({
            "depth": queue.depth,
            "capacity": queue.capacity,
            "refused": queue.refused,
            "mean_batch_texts": queue.mean_batch_texts,
            "mean_batch_tokens": queue.mean_batch_tokens,
        })),
        "cache": stats.cache.as_ref().map(|cache| json!({
            "hits": cache.hits,
            "misses": cache.misses,
            "evictions": cache.evictions,
            "entries": cache.entries,
            "bytes": cache.bytes,
            "capacity_bytes": cache.capacity_bytes,
        })),
        "sessions": stats.sessions.as_ref().map(|sessions| json!({
            "total": sessions.total,
            "busy": sessions.busy,
            "threads_per_session": sessions.threads_per_session,
        })),
    })
}

pub(super) fn reload(reloaded: &ReloadModelResponse) -> Value {
    json!({
        "previous_fingerprint": reloaded.previous_fingerprint,
        "fingerprint": reloaded.fingerprint,
        "validation": reloaded.validation.as_ref().map(validation),
    })
}

pub(super) fn cleared(cleared: ClearCacheResponse) -> Value {
    json!({ "entries": cleared.entries })
}

fn latency(latency: &Latency) -> Value {
    let ms = |time: &Option<prost_types::Duration>| time.as_ref().map(|time| seconds(time) * 1e3);
    json!({
        "count": latency.count,
        "mean_ms": ms(&latency.mean),
        "p50_ms": ms(&latency.p50),
        "p95_ms": ms(&latency.p95),
        "p99_ms": ms(&latency.p99),
        "max_ms": ms(&latency.max),
    })
}

pub(super) fn seconds(duration: &prost_types::Duration) -> f64 {
    duration.seconds as f64 + f64::from(duration.nanos) * 1e-9
}
