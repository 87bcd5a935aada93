use super::*;

fn compare(embedding: &[f32], reference: &[f32]) -> TextAccuracy {
    TextAccuracy::compare(0, "a", 3, embedding, reference, 0.99)
}

#[test]
fn the_cosine_does_not_depend_on_the_norms() {
    assert_eq!(cosine(&[1.0, 0.0], &[2.0, 0.0]), 1.0);
    assert_eq!(cosine(&[1.0, 0.0], &[0.0, 3.0]), 0.0);
    assert_eq!(cosine(&[1.0, 0.0], &[-1.0, 0.0]), -1.0);
    assert!((cosine(&[1.0, 1.0], &[1.0, 0.0]) - 0.5f64.sqrt()).abs() < 1e-12);
    let vector: Vec<f32> = (0..768).map(|i| (i as f32).sin()).collect();
    let own = cosine(&vector, &vector);
    assert!(own <= 1.0 && own > 1.0 - 1e-12, "{own}");
}

#[test]
fn vectors_without_a_direction_have_no_cosine_and_fail_the_gate() {
    for (embedding, reference) in [
        (&[0.0, 0.0][..], &[1.0, 0.0][..]),
        (&[f32::NAN, 0.0], &[1.0, 0.0]),
        (&[f32::INFINITY, 0.0], &[1.0, 0.0]),
        (&[1.0, 0.0], &[0.0, 0.0]),
        (&[1.0], &[1.0, 0.0]),
        (&[], &[]),
    ] {
        let text = compare(embedding, reference);
        assert!(text.cosine.is_nan() && !text.passed, "{embedding:?} {reference:?}");
        let accuracy = Accuracy::of(vec![compare(&[1.0], &[1.0]), text], 0.99);
        assert!(!accuracy.summary.passed && accuracy.summary.min_cosine.is_nan());
        assert!(!accuracy.record(ReferenceKind::PyTorch).passed());
        assert!(accuracy.worst(1)[0].cosine.is_nan());
    }
}

#[test]
fn the_error_is_the_mean_squared_difference_of_unit_vectors() {
    assert_eq!(mse(&[1.0, 2.0], &[1.0, 4.0]), 2.0);
    assert_eq!(compare(&[5.0, 0.0], &[1.0, 0.0]).mse, 0.0);
    assert!((compare(&[5.0, 0.0], &[0.0, 0.1]).mse - 1.0).abs() < 1e-6);
}

#[test]
fn the_gate_accepts_the_threshold_and_rejects_lower_cosines() {
    let at = |angle: f64| compare(&[angle.cos() as f32, angle.sin() as f32], &[1.0, 0.0]);
    let texts = vec![at(0.0), at(0.2), at(0.1)];
    let accuracy = Accuracy::of(texts.clone(), 0.99);
    assert!(!accuracy.summary.passed);
    assert_eq!(accuracy.worst(2).iter().map(|text| text.mse > 0.0).collect::<Vec<_>>(), [true, true]);
    assert!((accuracy.worst(9)[0].cosine - 0.2f64.cos()).abs() < 1e-6);
    let min_cosine = accuracy.summary.min_cosine;
    let exact = TextAccuracy::compare(0, "a", 3, &[1.0, 0.0], &[1.0, 0.0], 1.0);
    assert!(exact.passed);
    assert!(AccuracyRecord { threshold: min_cosine, ..accuracy.record(ReferenceKind::PyTorch) }.passed());
    assert!(!Accuracy::of(Vec::new(), 0.99).summary.passed, "an empty set must not pass");
}

#[test]
fn nan_survives_writing_and_reading() {
    let accuracy = Accuracy::of(vec![compare(&[0.0], &[1.0])], 0.99);
    let text = serde_json::to_string(&accuracy).expect("JSON");
    let read: Accuracy = serde_json::from_str(&text).expect("an accuracy");
    assert!(read.summary.min_cosine.is_nan() && !read.summary.passed);
}
