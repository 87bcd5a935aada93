//! How well a model preserves another model's ranking of texts by similarity.

use std::collections::BTreeSet;

use ndarray::Array2;

use super::normalized;

/// The number of nearest texts that validations and reports compare.
pub const TOP: usize = 10;

/// The mean share of a text's `count` nearest texts that two models have in common, given their embeddings of the same
/// texts.
///
/// Each text is a query once, and all other texts are ranked by their cosine to it. Texts with the same cosine are ranked
/// in the order of the set. A text whose embedding has no direction is never among the nearest, and as a query has none.
///
/// `None` if there are at most `count` other texts, because then all of them are the nearest, if the numbers of texts
/// differ, or if a model's embeddings differ in length.
pub fn top_overlap(first: &[&[f32]], second: &[&[f32]], count: usize) -> Option<f64> {
    let texts = first.len();
    if count == 0 || texts <= count + 1 || second.len() != texts {
        return None;
    }
    let [first, second] = [unit_rows(first)?, unit_rows(second)?];
    let shared = |query: usize| nearest(&first, query, count).intersection(&nearest(&second, query, count)).count();
    Some((0..texts).map(shared).sum::<usize>() as f64 / (texts * count) as f64)
}

/// `[texts, components]`, each row with a norm of 1 or, without a direction, NaN.
fn unit_rows(embeddings: &[&[f32]]) -> Option<Array2<f32>> {
    let width = embeddings.first()?.len();
    let values: Vec<f32> = embeddings.iter().flat_map(|embedding| normalized(embedding)).collect();
    let is_even = embeddings.iter().all(|embedding| embedding.len() == width);
    is_even.then(|| Array2::from_shape_vec((embeddings.len(), width), values).ok())?
}

fn nearest(rows: &Array2<f32>, query: usize, count: usize) -> BTreeSet<usize> {
    let cosines = rows.dot(&rows.row(query));
    let others = cosines.iter().enumerate().filter(|(text, cosine)| *text != query && cosine.is_finite());
    let mut others: Vec<(usize, f32)> = others.map(|(text, &cosine)| (text, cosine)).collect();
    others.sort_by(|a, b| b.1.total_cmp(&a.1));
    others.into_iter().take(count).map(|(text, _)| text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Embeddings in the plane, by angle in degrees.
    fn at(angles: &[f32]) -> Vec<Vec<f32>> {
        angles.iter().map(|angle| vec![2.0 * angle.to_radians().cos(), 2.0 * angle.to_radians().sin()]).collect()
    }

    fn overlap(first: &[Vec<f32>], second: &[Vec<f32>], count: usize) -> Option<f64> {
        let [first, second] = [first, second].map(|rows| rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
        top_overlap(&first, &second, count)
    }

    #[test]
    fn the_same_order_of_neighbors_is_a_full_overlap() {
        let first = at(&[0.0, 10.0, 25.0, 60.0]);
        assert_eq!(overlap(&first, &first, 1), Some(1.0));
        let rotated_and_stretched = at(&[90.0, 102.0, 120.0, 160.0]);
        assert_eq!(overlap(&first, &rotated_and_stretched, 1), Some(1.0));
        assert_eq!(overlap(&first, &rotated_and_stretched, 2), Some(1.0));
    }

    #[test]
    fn each_text_counts_by_the_share_of_its_nearest_texts() {
        let first = at(&[0.0, 10.0, 25.0, 60.0]);
        // The last text is now next to the first one.
        let second = at(&[0.0, 10.0, 25.0, -4.0]);
        // Nearest: 1, 0, 1, 2 and 3, 0, 1, 0.
        assert_eq!(overlap(&first, &second, 1), Some(0.5));
        // Nearest: 12, 02, 01, 12 and 13, 03, 01, 01.
        assert_eq!(overlap(&first, &second, 2), Some(5.0 / 8.0));
    }

    #[test]
    fn equal_cosines_are_ranked_in_the_order_of_the_set() {
        let first = at(&[0.0, 10.0, 10.0, 10.0]);
        let second = at(&[0.0, 10.0, 11.0, 13.0]);
        // Nearest: 1, 2, 1, 1 and 1, 2, 1, 2.
        assert_eq!(overlap(&first, &second, 1), Some(0.75));
    }

    #[test]
    fn embeddings_without_a_direction_share_nothing() {
        let first = at(&[0.0, 10.0, 25.0]);
        let broken = vec![vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![0.0, 0.0]];
        assert_eq!(overlap(&first, &broken, 1), Some(0.0));
        assert_eq!(overlap(&broken, &broken, 1), Some(0.0));
        let one_left_out = vec![first[0].clone(), vec![0.0, 0.0], first[2].clone()];
        // Nearest: 1, 0, 1 and 2, none, 0.
        assert_eq!(overlap(&first, &one_left_out, 1), Some(0.0));
    }

    #[test]
    fn sets_that_are_too_small_or_differ_in_size_have_no_overlap() {
        let first = at(&[0.0, 10.0, 25.0]);
        assert_eq!(overlap(&first, &first, 2), None);
        assert_eq!(overlap(&first, &first, 0), None);
        assert_eq!(overlap(&first, &at(&[0.0, 10.0]), 1), None);
        assert_eq!(overlap(&first, &[vec![1.0], vec![1.0], vec![1.0]], 1), Some(2.0 / 3.0));
        assert_eq!(overlap(&first, &[vec![1.0, 0.0], vec![1.0], vec![1.0, 2.0, 3.0]], 1), None);
        assert_eq!(overlap(&[], &[], 1), None);
    }
}
