//! Latency and throughput of the serving engine, from texts to vectors, through the queue that callers use.
//!
//! Before each request a benchmark looks whether texts of others wait in the queue, and waits as long as they do, up to
//! [`PATIENCE`]: on a server that is never idle it goes on slowly. Of its own it has [`Plan`]'s batch times concurrency
//! texts there at most, which is at most a quarter of the queue. The times are those of its requests alone; the rates
//! are over all the time, that in which it gave way among it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::filler;
use super::probe::{Probe, ProbeError};
use crate::embed::Embedder;
use crate::stats::Latency;

mod plan;

pub(crate) use plan::{Asked, Plan};

/// How long a request waits for texts of others.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// How often it looks: less than the time of a batch.
const LOOK: Duration = Duration::from_millis(2);
/// Requests before the measured ones, where more are not under way at once.
const WARM_UP: usize = 5;
/// Progress is told that often.
const TOLD_EVERY: Duration = Duration::from_millis(100);

/// What is measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Tokens of a text, special tokens included.
    pub tokens: usize,
    /// Texts of a request.
    pub batch: usize,
    /// Requests under way at once.
    pub concurrency: usize,
}

/// What was found for one shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    /// Of what.
    pub shape: Shape,
    /// Of a request.
    pub latency: Latency,
    /// Over all the time that the shape took after its warm-up.
    pub texts_per_second: f64,
    /// As `texts_per_second`.
    pub tokens_per_second: f64,
}

/// How far a benchmark is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Requests answered, those of warm-ups among them.
    pub done: usize,
    /// Requests in all.
    pub total: usize,
    /// What is being measured.
    pub shape: Shape,
}

/// Measures every shape of the plan, one after the other. Dropped, it stops. Progress that finds no room is not told.
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
    let mut meter = Meter { done: 0, total, told: Instant::now(), progress };
    for shape in plan.shapes() {
        if texts.as_ref().is_none_or(|&(tokens, _)| tokens != shape.tokens) {
            let embedder = Arc::clone(&embedder);
            // Some hundred texts are tokenised.
            let made = tokio::task::spawn_blocking(move || filler::texts(&embedder, shape.tokens)).await;
            texts = Some((shape.tokens, made.map_err(|_| ProbeError::NoText(shape.tokens))??));
        }
        let different = texts.as_ref().map_or(&[][..], |(_, texts)| texts);
        let work = Arc::new(Work::new(Arc::clone(&embedder), shape, different));
        work.measure(warm_up(shape), &mut meter).await?;
        let started = Instant::now();
        let times = work.measure(plan.requests, &mut meter).await?;
        rows.push(Row::of(shape, times, started.elapsed()));
    }
    Ok(rows)
}

fn warm_up(shape: Shape) -> usize {
    WARM_UP.max(shape.concurrency)
}

/// Tells how far it is, now and then.
struct Meter {
    done: usize,
    total: usize,
    told: Instant,
    progress: mpsc::Sender<Progress>,
}

impl Meter {
    fn advance(&mut self, shape: Shape) {
        self.done += 1;
        if self.told.elapsed() < TOLD_EVERY && self.done > 1 && self.done < self.total {
            return;
        }
        self.told = Instant::now();
        // A slow reader misses some of it.
        let _ = self.progress.try_send(Progress { done: self.done, total: self.total, shape });
    }
}

/// The requests of one shape.
struct Work {
    embedder: Arc<Embedder>,
    shape: Shape,
    /// Requests that differ, in turn.
    probes: Vec<Probe>,
    /// Texts under way.
    own: AtomicUsize,
}

impl Work {
    fn new(embedder: Arc<Embedder>, shape: Shape, texts: &[String]) -> Self {
        let request = |first: usize| {
            let texts = texts.iter().cycle().skip(first).take(shape.batch).cloned().collect();
            Probe::of(texts, &embedder)
        };
        let probes = (0..texts.len()).map(request).collect();
        Self { embedder, shape, probes, own: AtomicUsize::new(0) }
    }

    /// So many requests, as many at once as the shape has it.
    async fn measure(self: &Arc<Self>, requests: usize, meter: &mut Meter) -> Result<Vec<Duration>, ProbeError> {
        let (told, mut answers) = mpsc::channel(self.shape.concurrency);
        let next = Arc::new(AtomicUsize::new(0));
        // Dropped with this future, it ends them.
        let mut workers = JoinSet::new();
        for _ in 0..self.shape.concurrency {
            let (work, next, told) = (Arc::clone(self), Arc::clone(&next), told.clone());
            workers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests || told.send(work.request(number).await).await.is_err() {
                        return;
                    }
                }
            });
        }
        drop(told);
        let mut times = Vec::with_capacity(requests);
        while let Some(answer) = answers.recv().await {
            times.push(answer?);
            meter.advance(self.shape);
        }
        Ok(times)
    }

    async fn request(&self, number: usize) -> Result<Duration, ProbeError> {
        self.give_way().await;
        let Some(probe) = self.probes.get(number % self.probes.len().max(1)) else { return Ok(Duration::ZERO) };
        self.own.fetch_add(self.shape.batch, Ordering::Relaxed);
        let started = Instant::now();
        let result = probe.embed(&self.embedder).await;
        let took = started.elapsed();
        self.own.fetch_sub(self.shape.batch, Ordering::Relaxed);
        result.map(|_| took)
    }

    /// While more texts wait than can be this benchmark's own, some are others'.
    async fn give_way(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.embedder.queue_stats().depth > self.own.load(Ordering::Relaxed) && Instant::now() < deadline {
            sleep(LOOK).await;
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
        write!(f, "{tokens} tokens, {batch} texts a request, {concurrency} requests at once")
    }
}
