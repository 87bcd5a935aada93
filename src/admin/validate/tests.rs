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

fn indices(set: &ReferenceSet, max_tokens: usize) -> Vec<usize> {
    comparable(set, max_tokens).into_iter().map(|(index, _)| index).collect()
}

#[test]
fn texts_that_the_server_and_the_reference_truncate_differently_are_skipped() {
    let set = set(&[384, 3, 383, 20], 384);
    assert_eq!(indices(&set, 384), [0, 1, 2, 3], "truncated at the same length");
    assert_eq!(indices(&set, 512), [1, 2, 3], "the reference may have truncated the first");
    assert_eq!(indices(&set, 383), [1, 2, 3]);
    assert_eq!(indices(&set, 20), [1, 3]);
    assert_eq!(indices(&set, 2), [0usize; 0]);
}

#[test]
fn a_validation_without_comparable_texts_fails() {
    let accuracy = Accuracy::of(Vec::new(), 0.99);
    assert!(!accuracy.summary.passed);
}
