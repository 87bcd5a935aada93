//! When the requests of an open loop are due.

use std::time::Duration;

use super::plan::Arrivals;

/// An endless series of times since the start, at `rate` per second. The same seed gives the same times.
pub(crate) fn times(rate: f64, arrivals: Arrivals, seed: u64) -> impl Iterator<Item = Duration> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut count = 0.0;
    std::iter::from_fn(move || {
        // In units of the mean interval. 1 − u is positive, so its logarithm is finite.
        count += match arrivals {
            Arrivals::Poisson => -(1.0 - random.f64()).ln(),
            Arrivals::Constant => 1.0,
        };
        Duration::try_from_secs_f64(count / rate).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_are_evenly_spaced_and_do_not_drift() {
        let times: Vec<_> = times(4.0, Arrivals::Constant, 0).take(1000).collect();
        assert_eq!(times[0], Duration::from_millis(250));
        assert_eq!(times[999], Duration::from_secs(250));
    }

    #[test]
    fn intervals_of_poisson_arrivals_are_exponentially_distributed() {
        let times: Vec<f64> = times(100.0, Arrivals::Poisson, 7).take(20_000).map(|time| time.as_secs_f64()).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.01).abs() < 0.0003, "{mean}");
        assert!((variance.sqrt() - 0.01).abs() < 0.0005, "{variance}");
        assert!(gaps.iter().all(|gap| *gap >= 0.0));
    }

    #[test]
    fn the_same_seed_gives_the_same_times() {
        let of = |seed| times(10.0, Arrivals::Poisson, seed).take(10).collect::<Vec<_>>();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
