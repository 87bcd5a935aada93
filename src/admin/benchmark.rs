//! Latency and throughput of the serving engine, from texts to vectors, through the queue that callers use.
//!
//! Before each request, a benchmark waits while callers' texts are queued, for up to [`PATIENCE`]: on a server that is
//! never idle, it proceeds slowly. It queues at most batch size times concurrency texts of its own, which [`Plan`]
//! limits to a quarter of the queue. Latencies are those of its requests alone; throughput covers the whole time,
//! including the time spent waiting for callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::probe::{Probe, ProbeError};
use super::sample_texts;
use crate::embed::Embedder;
use crate::stats::Latency;
use embedd_model::PromptChoice;

mod plan;

pub(crate) use plan::{BenchmarkOptions, Plan};

/// How long a request waits for callers' queued texts.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// How often the queue is checked in the meantime: more often than batches finish.
const QUEUE_POLL: Duration = Duration::from_millis(2);
/// Warm-up requests before the measured ones, unless the concurrency is higher.
const WARM_UP: usize = 5;
/// How often progress is reported.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// One combination of parameters to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Tokens per text, including special tokens.
    pub tokens: usize,
    /// Texts per request.
    pub batch: usize,
    /// Concurrent requests.
    pub concurrency: usize,
}

/// The result for one shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    pub shape: Shape,
    /// The latency of one request.
    pub latency: Latency,
    /// Over the whole time of the shape, without its warm-up.
    pub texts_per_second: f64,
    /// Over the same time as the texts.
    pub tokens_per_second: f64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Requests answered, including warm-up.
    pub done: usize,
    /// Requests in total.
    pub total: usize,
    /// The shape being measured.
    pub shape: Shape,
}

/// Measures every shape of the plan in turn. Dropping the future stops it. Progress reports that do not fit the channel
/// are dropped.
///
/// # Errors
/// [`ProbeError`].
pub(crate) async fn run(
    embedder: Arc<Embedder>,
    plan: Plan,
    progress: mpsc::Sender<Progress>,
) -> Result<Vec<Row>, ProbeError> {
    let mut texts: Option<(usize, Vec<String>)> = None;
    let mut rows = Vec::new();
    let total = plan.shapes().map(|shape| warm_up(shape) + plan.requests).sum();
    let mut reporter = Reporter { done: 0, total, reported: Instant::now(), progress };
    for shape in plan.shapes() {
        if texts.as_ref().is_none_or(|&(tokens, _)| tokens != shape.tokens) {
            let embedder = Arc::clone(&embedder);
            // Tokenizes a few hundred texts, too much work for an async thread.
            let made = tokio::task::spawn_blocking(move || sample_texts::of_tokens(&embedder, shape.tokens)).await;
            texts = Some((shape.tokens, made.map_err(|_| ProbeError::NoText(shape.tokens))??));
        }
        let distinct = texts.as_ref().map_or(&[][..], |(_, texts)| texts);
        let workload = Arc::new(Workload::new(Arc::clone(&embedder), shape, distinct));
        workload.measure(warm_up(shape), &mut reporter).await?;
        let started = Instant::now();
        let times = workload.measure(plan.requests, &mut reporter).await?;
        rows.push(Row::of(shape, times, started.elapsed()));
    }
    Ok(rows)
}

fn warm_up(shape: Shape) -> usize {
    WARM_UP.max(shape.concurrency)
}

/// Reports progress at intervals.
struct Reporter {
    done: usize,
    total: usize,
    reported: Instant,
    progress: mpsc::Sender<Progress>,
}

impl Reporter {
    fn advance(&mut self, shape: Shape) {
        self.done += 1;
        if self.reported.elapsed() < PROGRESS_INTERVAL && self.done > 1 && self.done < self.total {
            return;
        }
        self.reported = Instant::now();
        // A slow reader misses some reports.
        let _ = self.progress.try_send(Progress { done: self.done, total: self.total, shape });
    }
}

/// The requests of one shape.
struct Workload {
    embedder: Arc<Embedder>,
    shape: Shape,
    /// Distinct requests, used in turn.
    probes: Vec<Probe>,
    texts_in_flight: AtomicUsize,
}

impl Workload {
    fn new(embedder: Arc<Embedder>, shape: Shape, texts: &[String]) -> Self {
        let request = |first: usize| {
            let texts = texts.iter().cycle().skip(first).take(shape.batch).cloned().collect();
            Probe::of(texts, PromptChoice::None, &embedder)
        };
        let probes = (0..texts.len()).map(request).collect();
        Self { embedder, shape, probes, texts_in_flight: AtomicUsize::new(0) }
    }

    /// Sends `requests` requests at the concurrency of the shape and returns their latencies.
    async fn measure(self: &Arc<Self>, requests: usize, reporter: &mut Reporter) -> Result<Vec<Duration>, ProbeError> {
        let (sender, mut answers) = mpsc::channel(self.shape.concurrency);
        let next = Arc::new(AtomicUsize::new(0));
        // Dropping this future drops the set, which aborts the workers.
        let mut workers = JoinSet::new();
        for _ in 0..self.shape.concurrency {
            let workload = Arc::clone(self);
            let next = Arc::clone(&next);
            let sender = sender.clone();
            workers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests || sender.send(workload.request(number).await).await.is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut times = Vec::with_capacity(requests);
        while let Some(answer) = answers.recv().await {
            times.push(answer?);
            reporter.advance(self.shape);
        }
        Ok(times)
    }

    async fn request(&self, number: usize) -> Result<Duration, ProbeError> {
        self.yield_to_callers().await;
        let Some(probe) = self.probes.get(number % self.probes.len().max(1)) else { return Ok(Duration::ZERO) };
        self.texts_in_flight.fetch_add(self.shape.batch, Ordering::Relaxed);
        let started = Instant::now();
        let result = probe.embed(&self.embedder).await;
        let took = started.elapsed();
        self.texts_in_flight.fetch_sub(self.shape.batch, Ordering::Relaxed);
        result.map(|_| took)
    }

    /// If more texts are queued than this benchmark has in flight, some belong to callers.
    async fn yield_to_callers(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.embedder.queue_stats().depth > self.texts_in_flight.load(Ordering::Relaxed)
            && Instant::now() < deadline
        {
            sleep(QUEUE_POLL).await;
        }
    }
}

impl Row {
    fn of(shape: Shape, times: Vec<Duration>, elapsed: Duration) -> Self {
        let texts_per_second = (times.len() * shape.batch) as f64 / elapsed.as_secs_f64();
        let tokens_per_second = texts_per_second * shape.tokens as f64;
        Self { shape, latency: Latency::of(times), texts_per_second, tokens_per_second }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tokens, batch, concurrency } = self;
        write!(f, "{tokens} tokens, {batch} texts per request, {concurrency} concurrent requests")
    }
}
