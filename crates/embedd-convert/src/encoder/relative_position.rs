//! Maps a distance to its bucket: the bidirectional buckets of T5 (Raffel et al. 2020), which MPNet uses.

/// This and larger distances share the last bucket of their direction.
const MAX_DISTANCE: f32 = 128.0;

/// The bucket, out of `buckets`, for `distance`, which is the key's position minus the query's.
///
/// The second half of the buckets is for keys after the query. Within each half, the first buckets cover one distance
/// each, and the other half of them cover logarithmically growing ranges.
pub(crate) fn bucket(distance: i32, buckets: usize) -> usize {
    let half = buckets / 2;
    let exact = half / 2;
    let base = if distance > 0 { half } else { 0 };
    let magnitude = distance.unsigned_abs() as usize;
    if magnitude < exact {
        return base + magnitude;
    }
    // The same order of float32 operations as in PyTorch: a boundary that is off by one would change the model.
    let ratio = (magnitude as f32 / exact as f32).ln() / (f64::from(MAX_DISTANCE) / exact as f64).ln() as f32;
    let logarithmic = exact + (ratio * (half - exact) as f32) as usize;
    base + logarithmic.min(half - 1)
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn each_near_distance_has_its_own_bucket() {
        let near: Vec<usize> = (-7..=7).map(|distance| bucket(distance, 32)).collect();
        assert_eq!(near, [7, 6, 5, 4, 3, 2, 1, 0, 17, 18, 19, 20, 21, 22, 23]);
    }

    /// The expected values are the first distance of each bucket, computed with PyTorch.
    #[test]
    fn far_distances_share_buckets_with_pytorchs_boundaries() {
        let starts = |sign: i32, base: usize| -> Vec<i32> {
            (base + 8..base + 16)
                .map(|wanted| (1..512).find(|&d| bucket(sign * d, 32) == wanted).expect("every bucket is used"))
                .collect()
        };
        let expected = [8, 12, 16, 23, 32, 46, 64, 91];
        assert_eq!(starts(-1, 0), expected);
        assert_eq!(starts(1, 16), expected);
        assert_eq!(bucket(-511, 32), 15);
        assert_eq!(bucket(511, 32), 31);
    }
}
