//! Converts results to messages.

use std::time::Duration;

use crate::admin::benchmark::{Progress, Row};
use crate::admin::{Reloaded, Validated};
use crate::embed::Embedder;
use crate::stats::{CacheStats, Latency, MethodSnapshot, QueueStats, SessionStats, Stage, Stats, WINDOW};
use embedd_model::accuracy::TextAccuracy;
use embedd_proto as proto;
use embedd_proto::benchmark_response::Event;

pub(super) fn validated(validated: &Validated) -> proto::ValidateResponse {
    let summary = &validated.accuracy.summary;
    proto::ValidateResponse {
        passed: summary.passed,
        min_cosine: summary.min_cosine,
        mean_cosine: summary.mean_cosine,
        p1_cosine: summary.p1_cosine,
        max_mse: summary.max_mse,
        mean_mse: summary.mean_mse,
        threshold: summary.threshold,
        texts: validated.accuracy.texts.iter().map(text).collect(),
        left_out: validated.left_out as u32,
    }
}

fn text(text: &TextAccuracy) -> proto::TextAccuracy {
    proto::TextAccuracy {
        index: text.index as u32,
        id: text.id.clone(),
        cosine: text.cosine,
        mse: text.mse,
        passed: text.passed,
    }
}

pub(super) fn reloaded(reloaded: &Reloaded) -> proto::ReloadModelResponse {
    proto::ReloadModelResponse {
        previous_fingerprint: reloaded.previous.to_string(),
        fingerprint: reloaded.fingerprint.to_string(),
        validation: reloaded.validation.as_ref().map(validated),
    }
}

pub(super) fn event(event: Event) -> proto::BenchmarkResponse {
    proto::BenchmarkResponse { event: Some(event) }
}

pub(super) fn progress(progress: &Progress) -> Event {
    Event::Progress(proto::BenchmarkProgress {
        done: progress.done as u32,
        total: progress.total as u32,
        stage: progress.shape.to_string(),
    })
}

pub(super) fn rows(rows: &[Row]) -> proto::BenchmarkResult {
    let row = |row: &Row| proto::BenchmarkRow {
        token_count: row.shape.tokens as u32,
        batch_size: row.shape.batch as u32,
        concurrency: row.shape.concurrency as u32,
        latency: Some(latency(&row.latency)),
        texts_per_second: row.texts_per_second,
        tokens_per_second: row.tokens_per_second,
    };
    proto::BenchmarkResult { rows: rows.iter().map(row).collect() }
}

/// Queue, cache and sessions are absent while no model is loaded.
pub(super) async fn stats(stats: &Stats, embedder: Option<&Embedder>) -> proto::GetStatsResponse {
    let snapshot = stats.snapshot();
    let cache = match embedder {
        Some(embedder) => Some(write_cache(embedder.cache_stats().await)),
        None => None,
    };
    let stage = |&(stage, ref measured): &(Stage, Latency)| proto::StageStats {
        stage: stage.name().to_owned(),
        latency: Some(latency(measured)),
    };
    proto::GetStatsResponse {
        uptime: duration(snapshot.uptime),
        window: duration(WINDOW),
        methods: snapshot.methods.iter().map(method).collect(),
        stages: snapshot.stages.iter().map(stage).collect(),
        queue: embedder.map(|embedder| queue(embedder.queue_stats())),
        cache,
        sessions: embedder.map(|embedder| sessions(embedder.session_stats())),
    }
}

fn method(snapshot: &MethodSnapshot) -> proto::MethodStats {
    proto::MethodStats {
        method: snapshot.method.name().to_owned(),
        latency: Some(latency(&snapshot.latency)),
        replies: snapshot.replies.iter().copied().collect(),
    }
}

fn latency(latency: &Latency) -> proto::Latency {
    // Without calls there is no duration, and reporting 0 s would be wrong.
    let time = |time| if latency.count == 0 { None } else { duration(time) };
    proto::Latency {
        count: latency.count,
        mean: time(latency.mean),
        p50: time(latency.p50),
        p95: time(latency.p95),
        p99: time(latency.p99),
        max: time(latency.max),
    }
}

fn queue(queue: QueueStats) -> proto::QueueStats {
    proto::QueueStats {
        depth: queue.depth as u64,
        capacity: queue.capacity as u64,
        refused: queue.refused,
        abandoned: queue.abandoned,
        mean_batch_texts: queue.mean_batch_texts,
        mean_batch_tokens: queue.mean_batch_tokens,
    }
}

fn write_cache(cache: CacheStats) -> proto::CacheStats {
    let CacheStats { hits, misses, evictions, entries, bytes, capacity_bytes } = cache;
    proto::CacheStats { hits, misses, evictions, entries, bytes, capacity_bytes }
}

fn sessions(sessions: SessionStats) -> proto::SessionStats {
    proto::SessionStats {
        total: sessions.total as u32,
        busy: sessions.busy as u32,
        threads_per_session: sessions.threads as u32,
    }
}

/// Every duration within the life of a process fits the message.
fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}
