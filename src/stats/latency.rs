//! Summary statistics of durations.

use std::time::Duration;

use embedd_common::percentile::nearest_rank;

/// Summary of a number of durations; all zero if there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Latency {
    pub count: u64,
    pub mean: Duration,
    pub p50: Duration,
    pub p95: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Latency {
    /// The exact summary of these times. Percentiles are nearest-rank, as in a histogram: each is one of the times.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        if times.is_empty() {
            return Self::default();
        }
        times.sort_unstable();
        let percentile = |percent| nearest_rank(&times, percent).unwrap_or_default();
        let total: Duration = times.iter().sum();
        Self {
            count: times.len() as u64,
            mean: total.div_f64(times.len() as f64),
            p50: percentile(50),
            p95: percentile(95),
            p99: percentile(99),
            max: percentile(100),
        }
    }
}
