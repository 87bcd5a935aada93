//! Varies times, so that events that were caused together do not repeat together.

use std::time::Duration;

/// Varies a time by up to `fraction` of it. `random` is from 0 to 1.
pub fn jittered(time: Duration, fraction: f64, random: f64) -> Duration {
    time.mul_f64(1.0 - fraction + 2.0 * fraction * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_varies_by_the_fraction() {
        let time = Duration::from_secs(600);
        assert_eq!([0.0, 0.5, 1.0].map(|random| jittered(time, 0.1, random).as_secs()), [540, 600, 660]);
        assert_eq!([0.0, 0.5, 1.0].map(|random| jittered(time, 0.2, random).as_secs()), [480, 600, 720]);
    }
}
