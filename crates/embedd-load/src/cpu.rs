//! The load generator's own CPU time. If it runs short of CPU, it measures itself instead of the server.

use std::time::{Duration, Instant};

use embedd_common::process::cpu_time;

/// The minimum time between two readings, because each takes a system call.
const INTERVAL: Duration = Duration::from_millis(100);

/// Measures the CPU time between the first tick and the last.
#[derive(Debug, Default)]
pub(crate) struct CpuClock {
    first: Option<(Instant, Duration)>,
    last: Option<(Instant, Duration)>,
}

impl CpuClock {
    /// Reads the clock, unless it was read recently.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.last.is_some_and(|(at, _)| now.saturating_duration_since(at) < INTERVAL) {
            return;
        }
        self.last = cpu_time().map(|time| (now, time));
        self.first = self.first.or(self.last);
    }

    /// CPU time divided by wall time.
    pub(crate) fn share(&self) -> Option<f64> {
        let ((first, before), (last, after)) = self.first.zip(self.last)?;
        let wall = last.saturating_duration_since(first);
        (wall >= INTERVAL).then(|| after.saturating_sub(before).as_secs_f64() / wall.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_needs_two_readings() {
        let mut clock = CpuClock::default();
        let now = Instant::now();
        clock.tick(now);
        assert_eq!(clock.share(), None);
        clock.first = Some((now, Duration::from_secs(1)));
        clock.last = Some((now + Duration::from_secs(2), Duration::from_secs(2)));
        assert_eq!(clock.share(), Some(0.5));
    }
}
