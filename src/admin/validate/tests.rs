use std::collections::BTreeMap;

use super::*;

fn set(token_counts: &[u32], max_tokens: u32) -> ReferenceSet {
    let text = |&token_count: &u32| ReferenceText {
        id: format!("of-{token_count}"),
        text: String::new(),
        embedding: vec![1.0],
        token_count,
    };
    let texts = token_counts.iter().map(text).collect();
    ReferenceSet { texts, dimension: 1, max_tokens, provenance: BTreeMap::new() }
}

fn places(set: &ReferenceSet, max_tokens: usize) -> Vec<usize> {
    comparable(set, max_tokens).into_iter().map(|(index, _)| index).collect()
}

#[test]
fn texts_that_the_server_cuts_elsewhere_than_the_reference_are_left_out() {
    let set = set(&[384, 3, 383, 20], 384);
    assert_eq!(places(&set, 384), [0, 1, 2, 3], "cut alike");
    assert_eq!(places(&set, 512), [1, 2, 3], "the reference may have cut the first");
    assert_eq!(places(&set, 383), [1, 2, 3]);
    assert_eq!(places(&set, 20), [1, 3]);
    assert_eq!(places(&set, 2), [0usize; 0]);
}

#[test]
fn a_set_of_which_nothing_can_be_compared_does_not_pass() {
    let accuracy = Accuracy::of(Vec::new(), 0.99);
    assert!(!accuracy.summary.passed);
}
