//! The past that the page shows: a ring of samples.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use utoipa::ToSchema;

use crate::model_slot::ModelSlot;
use crate::stats::{BatchTotals, CacheStats, ErrorTotals, Latency, RequestTotals, Stage, Stats};

/// The time between two samples.
pub(super) const SAMPLE: Duration = Duration::from_secs(5);
/// Ten minutes.
pub(super) const SAMPLES: usize = 120;
/// The queue and the sessions change faster, so a sample has several readings of them.
const READINGS: u32 = 5;

/// The last samples; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct History(Arc<Mutex<VecDeque<Sample>>>);

/// A few seconds of the server.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Sample {
    /// Seconds from the start of the server to the end of the sample.
    pub(super) at: f64,
    pub(super) texts_per_second: f64,
    pub(super) requests_per_second: f64,
    pub(super) latency: Latencies,
    /// Mean number of texts in a batch; null if no batch ran.
    pub(super) batch_texts: Option<f64>,
    /// Mean number of tokens in a batch, without padding.
    pub(super) batch_tokens: Option<f64>,
    /// Share of the texts that were found in the cache; null if none was looked up.
    pub(super) cache_hit_rate: Option<f64>,
    /// Maximum number of texts in the queue.
    pub(super) queue_texts: usize,
    /// Mean number of sessions that run a batch.
    pub(super) sessions_busy: f64,
    pub(super) errors: CallErrors,
}

/// Latencies of requests for embeddings by stage, over the minute before; null if no request passed through a stage.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Latencies {
    pub(super) tokenize: Option<Percentiles>,
    pub(super) queue: Option<Percentiles>,
    pub(super) infer: Option<Percentiles>,
    /// The whole request, including those that the cache answered.
    pub(super) total: Option<Percentiles>,
}

/// In milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
}

/// Calls of all protocols that were answered with an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct CallErrors {
    /// The request was wrong.
    pub(super) rejected: u64,
    /// The server was too busy or not ready, or a deadline expired.
    pub(super) overloaded: u64,
    /// The server failed.
    pub(super) failed: u64,
}

/// Counters since the start.
#[derive(Debug, Default, PartialEq)]
struct Totals {
    requests: RequestTotals,
    errors: ErrorTotals,
    batches: BatchTotals,
    cache: CacheStats,
}

/// Readings since the last sample.
#[derive(Debug, Default)]
struct Readings {
    number: u32,
    queue_texts: usize,
    sessions_busy: usize,
}

impl History {
    /// From the oldest to the newest.
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.lock().iter().cloned().collect()
    }

    /// Records samples for as long as the future is polled.
    pub(crate) async fn record(self, stats: Stats, model: ModelSlot) {
        let mut before = Totals::read(&stats, &model).await;
        let mut readings = Readings::default();
        let mut started = Instant::now();
        let pause = SAMPLE / READINGS;
        let mut ticks = interval_at(started + pause, pause);
        // A late sample covers more time; it is not followed by others that cover none.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            readings.add(&model);
            if readings.number < READINGS {
                continue;
            }
            let totals = Totals::read(&stats, &model).await;
            let now = Instant::now();
            self.add(sample(&stats, &totals, &before, &readings, now - started));
            before = totals;
            readings = Readings::default();
            started = now;
        }
    }

    fn add(&self, sample: Sample) {
        let mut samples = self.lock();
        if samples.len() >= SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// Ignores poisoning: no code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Totals {
    async fn read(stats: &Stats, model: &ModelSlot) -> Self {
        let cache = match model.get() {
            Some(embedder) => embedder.cache_stats().await,
            None => CacheStats::default(),
        };
        Self { requests: stats.requests(), errors: stats.errors(), batches: stats.batches().totals(), cache }
    }
}

impl Readings {
    fn add(&mut self, model: &ModelSlot) {
        self.number += 1;
        if let Some(embedder) = model.get() {
            self.queue_texts = self.queue_texts.max(embedder.queue_stats().depth);
            self.sessions_busy += embedder.session_stats().busy;
        }
    }
}

fn sample(stats: &Stats, totals: &Totals, before: &Totals, readings: &Readings, took: Duration) -> Sample {
    let per_second = |now: u64, before: u64| rounded(now.saturating_sub(before) as f64 / took.as_secs_f64());
    let batches = totals.batches.batches.saturating_sub(before.batches.batches);
    let per_batch = |now: u64, before: u64| ratio(now.saturating_sub(before), batches);
    let hits = totals.cache.hits.saturating_sub(before.cache.hits);
    let misses = totals.cache.misses.saturating_sub(before.cache.misses);
    Sample {
        at: rounded(stats.uptime().as_secs_f64()),
        texts_per_second: per_second(totals.requests.texts, before.requests.texts),
        requests_per_second: per_second(totals.requests.requests, before.requests.requests),
        latency: Latencies::of(stats),
        batch_texts: per_batch(totals.batches.texts, before.batches.texts),
        batch_tokens: per_batch(totals.batches.tokens, before.batches.tokens),
        cache_hit_rate: ratio(hits, hits + misses),
        queue_texts: readings.queue_texts,
        sessions_busy: rounded(readings.sessions_busy as f64 / f64::from(readings.number.max(1))),
        errors: CallErrors {
            rejected: totals.errors.rejected.saturating_sub(before.errors.rejected),
            overloaded: totals.errors.overloaded.saturating_sub(before.errors.overloaded),
            failed: totals.errors.failed.saturating_sub(before.errors.failed),
        },
    }
}

impl Latencies {
    /// Over the last minute.
    pub(super) fn of(stats: &Stats) -> Self {
        let stage = |stage| Percentiles::of(&stats.stage_latency(stage));
        Self {
            tokenize: stage(Stage::Tokenize),
            queue: stage(Stage::Queue),
            infer: stage(Stage::Infer),
            total: Percentiles::of(&stats.request_latency()),
        }
    }
}

impl Percentiles {
    fn of(latency: &Latency) -> Option<Self> {
        let ms = |time: Duration| rounded(time.as_secs_f64() * 1e3);
        let Latency { p50, p95, p99, .. } = *latency;
        (latency.count > 0).then(|| Self { p50: ms(p50), p95: ms(p95), p99: ms(p99) })
    }
}

impl From<ErrorTotals> for CallErrors {
    fn from(ErrorTotals { rejected, overloaded, failed }: ErrorTotals) -> Self {
        Self { rejected, overloaded, failed }
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| rounded(part as f64 / whole as f64))
}

/// With three decimals, for JSON.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets the recording task run after the clock has advanced.
    async fn advance(seconds: u64) {
        for _ in 0..seconds {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::task::yield_now().await;
    }

    fn start() -> (History, Stats, tokio::task::JoinHandle<()>) {
        let history = History::default();
        let stats = Stats::default();
        let task = tokio::spawn(history.clone().record(stats.clone(), ModelSlot::default()));
        (history, stats, task)
    }

    #[tokio::test(start_paused = true)]
    async fn a_sample_counts_what_happened_since_the_one_before() {
        let (history, stats, task) = start();
        tokio::task::yield_now().await;
        stats.record_request(3, Duration::from_millis(20));
        stats.record_request(2, Duration::from_millis(10));
        stats.batches().count_batch(4, 40);
        stats.batches().count_batch(1, 9);
        stats.record_http_status(429);
        advance(4).await;
        assert_eq!(history.samples(), [], "the first sample takes five seconds");
        advance(1).await;
        let samples = history.samples();
        let [first] = &samples[..] else { panic!("one sample: {samples:?}") };
        assert_eq!((first.texts_per_second, first.requests_per_second), (1.0, 0.4));
        assert_eq!((first.batch_texts, first.batch_tokens), (Some(2.5), Some(24.5)));
        assert_eq!((first.at, first.cache_hit_rate, first.sessions_busy), (5.0, None, 0.0));
        assert_eq!(first.errors, CallErrors { overloaded: 1, ..CallErrors::default() });
        let total = first.latency.total.as_ref().expect("two requests");
        assert!((total.p50 - 10.0).abs() < 0.2 && (total.p99 - 20.0).abs() < 0.2, "{total:?}");
        assert_eq!(first.latency.queue, None, "no request was queued");
        advance(5).await;
        let second = history.samples().pop().expect("a sample");
        assert_eq!((second.at, second.texts_per_second, second.batch_texts), (10.0, 0.0, None));
        assert_eq!(second.errors, CallErrors::default());
        assert!(second.latency.total.is_some(), "latencies are those of a minute");
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_samples_are_dropped() {
        let (history, _, task) = start();
        advance(5 * (SAMPLES as u64 + 7)).await;
        let samples = history.samples();
        assert_eq!(samples.len(), SAMPLES);
        assert_eq!((samples[0].at, samples[SAMPLES - 1].at), (5.0 * 8.0, 5.0 * 127.0));
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn recording_ends_with_its_task() {
        let (history, _, task) = start();
        advance(5).await;
        drop(tokio_util::task::AbortOnDropHandle::new(task));
        advance(60).await;
        assert_eq!(history.samples().len(), 1);
    }
}
