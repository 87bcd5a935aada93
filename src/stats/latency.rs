//! How long something took, as a few figures.

use std::time::Duration;

/// Figures over a number of times; all zero where there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the figures' own")]
pub(crate) struct Latency {
    pub count: u64,
    pub mean: Duration,
    pub p50: Duration,
    pub p95: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Latency {
    /// The figures of these times, exactly. A percentile is the least of the times that so many of them do not exceed.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let (Some(&max), count) = (times.last(), times.len()) else { return Self::default() };
        let percentile = |percent: usize| times[(count * percent).div_ceil(100).max(1) - 1];
        let total: Duration = times.iter().sum();
        Self {
            count: count as u64,
            mean: total.div_f64(count as f64),
            p50: percentile(50),
            p95: percentile(95),
            p99: percentile(99),
            max,
        }
    }
}
