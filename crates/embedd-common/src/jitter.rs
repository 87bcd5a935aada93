//! Random variation of times, so that what began together does not happen together again.

use std::time::Duration;

/// A random time that differs from `time` by at most this `fraction` of it.
pub fn with_jitter(time: Duration, fraction: f64) -> Duration {
    vary(time, fraction, fastrand::f64())
}

/// `random` is in `0.0..=1.0`.
fn vary(time: Duration, fraction: f64, random: f64) -> Duration {
    time.mul_f64(1.0 - fraction + 2.0 * fraction * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_varies_by_at_most_the_fraction() {
        let time = Duration::from_secs(600);
        assert_eq!([0.0, 0.5, 1.0].map(|random| vary(time, 0.1, random).as_secs()), [540, 600, 660]);
        assert!((480..=720).contains(&with_jitter(time, 0.2).as_secs()));
    }
}
