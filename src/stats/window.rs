//! A sliding window of durations: a ring of time slices, each with a histogram. The oldest slice is reused.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::Latency;

/// With twelve slices, a window of 60 s forgets a duration after 55 to 60 s.
const SLICES: usize = 12;
/// Percentiles are accurate to 1%, with at most about 10 kB per histogram.
const SIGNIFICANT_DIGITS: u8 = 2;

/// Recording takes about 40 ns, including a lock.
#[derive(Debug)]
pub(super) struct Window {
    started: Instant,
    slice: Duration,
    slices: Mutex<[Slice; SLICES]>,
}

#[derive(Debug)]
struct Slice {
    /// Number of the time slice since the start.
    number: u64,
    /// Nanoseconds.
    histogram: Histogram<u32>,
    total: Duration,
    max: Duration,
}

impl Window {
    pub(super) fn new(started: Instant, length: Duration) -> Self {
        let slices = std::array::from_fn(|_| Slice::new());
        Self { started, slice: length / SLICES as u32, slices: Mutex::new(slices) }
    }

    pub(super) fn record(&self, now: Instant, took: Duration) {
        let number = self.number(now);
        let mut slices = self.lock();
        let slice = &mut slices[(number % SLICES as u64) as usize];
        if slice.number < number {
            slice.reuse(number);
        }
        slice.record(took);
    }

    pub(super) fn latency(&self, now: Instant) -> Latency {
        let newest = self.number(now);
        let slices = self.lock();
        let within = slices.iter().filter(|slice| slice.number + SLICES as u64 > newest);
        let mut merged = new_histogram();
        let mut total = Duration::ZERO;
        let mut max = Duration::ZERO;
        for slice in within {
            // Fails only for histograms of a fixed range.
            let _ = merged.add(&slice.histogram);
            total += slice.total;
            max = max.max(slice.max);
        }
        drop(slices);
        let count = merged.len();
        if count == 0 {
            return Latency::default();
        }
        // The histogram returns the upper end of a bucket, which may exceed the largest duration in it.
        let quantile = |q| Duration::from_nanos(merged.value_at_quantile(q)).min(max);
        let mean = total.div_f64(count as f64);
        Latency { count, mean, p50: quantile(0.5), p95: quantile(0.95), p99: quantile(0.99), max }
    }

    fn number(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started);
        (elapsed.as_nanos() / self.slice.as_nanos().max(1)) as u64
    }

    /// Ignores poisoning: no code leaves a slice inconsistent in a way that matters while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, [Slice; SLICES]> {
        self.slices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slice {
    fn new() -> Self {
        Self { number: 0, histogram: new_histogram(), total: Duration::ZERO, max: Duration::ZERO }
    }

    fn reuse(&mut self, number: u64) {
        self.number = number;
        self.histogram.reset();
        self.total = Duration::ZERO;
        self.max = Duration::ZERO;
    }

    fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if self.histogram.record(nanos).is_ok() {
            self.total += took;
            self.max = self.max.max(took);
        }
    }
}

/// A histogram that grows with the durations it records.
fn new_histogram() -> Histogram<u32> {
    Histogram::new(SIGNIFICANT_DIGITS).unwrap_or_else(|error| unreachable!("{SIGNIFICANT_DIGITS} digits: {error}"))
}
