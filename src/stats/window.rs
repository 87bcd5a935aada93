//! Times of the last while: a ring of slices, each with a histogram, of which the oldest is reused.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::Latency;

/// With twelve slices, what has just been told is forgotten after 55 to 60 s of a window of 60 s.
const SLICES: usize = 12;
/// Percentiles are right to 1 %. A histogram has then some 10 kB at most.
const SIGNIFICANT_DIGITS: u8 = 2;

/// A sliding window. Recording takes a lock, and some 40 ns in all.
#[derive(Debug)]
pub(super) struct Window {
    started: Instant,
    slice: Duration,
    slices: Mutex<[Slice; SLICES]>,
}

#[derive(Debug)]
struct Slice {
    /// Which slice of time since the start it holds.
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
        let (mut all, mut total, mut max) = (new_histogram(), Duration::ZERO, Duration::ZERO);
        for slice in within {
            // Only histograms that do not grow can fail to take in another.
            let _ = all.add(&slice.histogram);
            total += slice.total;
            max = max.max(slice.max);
        }
        drop(slices);
        let count = all.len();
        if count == 0 {
            return Latency::default();
        }
        // A histogram gives the upper end of a bucket, which may lie beyond the greatest time in it.
        let quantile = |q| Duration::from_nanos(all.value_at_quantile(q)).min(max);
        let mean = total.div_f64(count as f64);
        Latency { count, mean, p50: quantile(0.5), p95: quantile(0.95), p99: quantile(0.99), max }
    }

    fn number(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started);
        (elapsed.as_nanos() / self.slice.as_nanos().max(1)) as u64
    }

    /// No code that holds the lock can leave a slice half-changed in a way that matters.
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
        (self.total, self.max) = (Duration::ZERO, Duration::ZERO);
    }

    fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if self.histogram.record(nanos).is_ok() {
            self.total += took;
            self.max = self.max.max(took);
        }
    }
}

/// It grows as far as the times that it gets need.
fn new_histogram() -> Histogram<u32> {
    Histogram::new(SIGNIFICANT_DIGITS).unwrap_or_else(|error| unreachable!("{SIGNIFICANT_DIGITS} digits: {error}"))
}
