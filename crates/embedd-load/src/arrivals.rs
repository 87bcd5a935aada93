//! When the requests of an open loop are to be sent.

use std::time::Duration;

use super::plan::Arrivals;

/// Times from the beginning, without end, at `rate` a second; the same seed gives the same times.
pub(super) fn times(rate: f64, arrivals: Arrivals, seed: u64) -> impl Iterator<Item = Duration> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut count = 0.0;
    std::iter::from_fn(move || {
        // Counted in mean distances. 1 − u is above zero, so that its logarithm is finite.
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
    fn constant_arrivals_keep_their_distance_and_do_not_drift() {
        let times: Vec<_> = times(4.0, Arrivals::Constant, 0).take(1000).collect();
        assert_eq!(times[0], Duration::from_millis(250));
        assert_eq!(times[999], Duration::from_secs(250));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_poisson() {
        let times: Vec<f64> = times(100.0, Arrivals::Poisson, 7).take(20_000).map(|time| time.as_secs_f64()).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.01).abs() < 0.0003, "{mean}");
        assert!((variance.sqrt() - 0.01).abs() < 0.0005, "{variance}");
        assert!(gaps.iter().all(|gap| *gap >= 0.0));
    }

    #[test]
    fn a_seed_repeats_the_times() {
        let of = |seed| times(10.0, Arrivals::Poisson, seed).take(10).collect::<Vec<_>>();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
