use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::Array2;

use super::*;

fn text(id: &str, token_count: u32) -> ReferenceText {
    ReferenceText { id: id.to_owned(), text: String::new(), embedding: vec![1.0, 0.0], token_count }
}

fn set(texts: Vec<ReferenceText>, max_tokens: u32) -> ReferenceSet {
    ReferenceSet { texts, dimension: 2, max_tokens, provenance: BTreeMap::new() }
}

fn chosen(set: &ReferenceSet, max_tokens: usize) -> Vec<u32> {
    choose(set, max_tokens).iter().map(|text| text.token_count).collect()
}

/// Returns vectors at an angle with this tangent to the reference's, and counts its texts.
struct Fixed(f32, Arc<AtomicUsize>);

impl Fixed {
    fn boxed(tangent: f32) -> Box<dyn Session> {
        Box::new(Self(tangent, Arc::default()))
    }
}

impl Session for Fixed {
    fn infer(&mut self, batch: &[&TokenIds]) -> Result<Array2<f32>, InferenceError> {
        self.1.fetch_add(batch.len(), Ordering::Relaxed);
        Ok(Array2::from_shape_fn((batch.len(), 2), |(_, column)| if column == 0 { 1.0 } else { self.0 }))
    }
}

fn check(texts: usize) -> SelfCheck {
    let texts = (0..texts).map(|index| (TokenIds::new([1, 2]), text(&format!("text-{index}"), 2))).collect();
    SelfCheck { texts, threshold: 0.99, engine: Variant::Native, instruction_set: "avx2".to_owned() }
}

#[test]
fn texts_of_all_lengths_are_chosen_including_edge_cases() {
    let plain = (2..100).map(|tokens| text("plain", tokens));
    let hard = [3, 5, 90].map(|tokens| text("edge-1", tokens));
    let all = set(plain.chain(hard).collect(), 384);
    assert_eq!(chosen(&all, 384), [2, 3, 5, 11, 20, 29, 38, 48]);
    assert_eq!(chosen(&all, 4), [2, 3, 3, 4], "texts that the tokenizer truncates are left out");
    assert_eq!(
        chosen(&set(all.texts.clone(), 4), 384),
        [2, 3, 3],
        "texts that PyTorch may have truncated are left out"
    );
    assert_eq!(chosen(&set(vec![text("long", 200)], 384), 384), [0u32; 0]);
}

#[test]
fn every_session_is_checked_and_the_minimum_cosine_is_returned() {
    for (texts, sessions) in [(8, 1), (8, 3), (2, 5)] {
        let counts: Vec<Arc<AtomicUsize>> = (0..sessions).map(|_| Arc::default()).collect();
        let mut pool: Vec<Box<dyn Session>> =
            counts.iter().map(|count| Box::new(Fixed(0.1, Arc::clone(count))) as _).collect();
        let min_cosine = check(texts).run(&mut pool).expect("accurate");
        let counts: Vec<usize> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert!(counts.iter().all(|&count| count >= 1), "{counts:?}");
        assert!(counts.iter().sum::<usize>() >= texts, "{counts:?}");
        assert!((min_cosine - 1.0 / 1.01f64.sqrt()).abs() < 1e-6, "{min_cosine}");
    }
}

#[test]
fn one_inaccurate_session_is_detected_and_the_error_suggests_what_to_do() {
    for wrong in [0.5, f32::NAN] {
        let mut pool: Vec<Box<dyn Session>> = vec![Fixed::boxed(0.0), Fixed::boxed(wrong)];
        let error = check(8).run(&mut pool).expect_err("inaccurate").to_string();
        for part in ["native engine (avx2)", "text-1", "0.99000", "--engine fp32"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
