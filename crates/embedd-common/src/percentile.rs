//! Means and percentiles of values that are all in memory. Streams of values use histograms instead.

/// The arithmetic mean; NaN if there are no values.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The values in ascending order (by [`f64::total_cmp`]).
pub fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The quantile `q` (0 to 1) of sorted values, interpolated linearly between neighbors, as numpy's `percentile` does.
/// NaN if there are no values or one of them is NaN.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    if sorted.is_empty() || sorted.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let position = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    below + (above - below) * position.fract()
}

/// The percentile by the nearest-rank method: the smallest of the sorted values such that `percent` percent of them do
/// not exceed it. `None` if there are no values.
pub fn nearest_rank<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_interpolated() {
        let values = sorted(&[3.0, 1.0, 2.0]);
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|q| quantile(&values, q)), [1.0, 1.5, 2.0, 3.0]);
        assert!(quantile(&[], 0.5).is_nan());
        assert!(quantile(&sorted(&[1.0, f64::NAN]), 0.0).is_nan());
    }

    #[test]
    fn nearest_ranks_are_values_of_the_list() {
        let values: Vec<u32> = (1..=200).collect();
        assert_eq!([0, 1, 50, 99, 100].map(|percent| nearest_rank(&values, percent)), [1, 2, 100, 198, 200].map(Some));
        assert_eq!(nearest_rank(&[7], 50), Some(7));
        assert_eq!(nearest_rank::<u32>(&[], 50), None);
    }

    #[test]
    fn the_mean_of_nothing_is_not_a_number() {
        assert_eq!(mean(&[1.0, 2.0, 6.0]), 3.0);
        assert!(mean(&[]).is_nan());
    }
}
