use super::selection::{FURTHER_TEXTS, TEXTS};
use super::*;
use crate::tiny::dna_tokenizer;
use embedd_model::reference::ReferenceSet;

const REFERENCES: [&[u8]; 2] = [
    include_bytes!("../../../../reference/all-mpnet-base-v2.safetensors"),
    include_bytes!("../../../../reference/all-MiniLM-L6-v2.safetensors"),
];

#[test]
fn channels_are_ranked_by_their_largest_magnitude() {
    let mut calibration = Calibration::default();
    calibration.measure_channels(0, LinearInput::Output, 8, &[0.5, 1.0, -1.0, 8.0, 0.0, 2.0, 3.0, 0.1]);
    calibration.measure_channels(0, LinearInput::Output, 8, &[0.5, -9.0, 1.0, 1.0, 0.0, 2.0, 3.0, 0.1]);
    assert_eq!(calibration.by_magnitude(0, LinearInput::Output), [1, 3, 6, 5, 2, 0, 7, 4]);
    assert_eq!(calibration.width(0, LinearInput::Output), 8);
}

#[test]
fn texts_without_tokens_are_replaced_by_the_vocabulary() {
    for strict in [false, true] {
        let file = dna_tokenizer(strict).to_string();
        let tokenizer =
            Tokenizer::parse(file.as_bytes(), Path::new("tokenizer.json"), 512, false).expect("a tokenizer");
        for (index, text) in ["1 2 3", "?"].into_iter().enumerate() {
            let found = ids(&tokenizer, text, index);
            assert_eq!(found.len(), MAX_TOKENS_PER_TEXT, "{text:?}");
            assert!((0..6).all(|id| found.as_slice().contains(&id)) && found.as_slice().iter().all(|id| *id < 6));
        }
        assert_eq!(ids(&tokenizer, "C G", 0).as_slice(), [0, 3, 4, 2]);
        assert_eq!(ids(&tokenizer, " ", 0).as_slice(), [0, 2], "a blank text has no tokens in any language");
    }
}

#[test]
fn rows_are_kept_up_to_the_maximum_and_stay_finite() {
    let mut calibration = Calibration::default();
    for _ in 0..MAX_TOKENS {
        calibration.keep(1, LinearInput::Attention, 2, &[-1e9, 0.5, 0.25, -0.5], 2);
    }
    let Rows { values, channels } = calibration.rows(1, LinearInput::Attention);
    assert_eq!((values.len(), channels), (MAX_TOKENS * 2, 2));
    assert_eq!(values[values.len() - 4..], [f16::MIN, f16::from_f32(0.5), f16::from_f32(0.25), f16::from_f32(-0.5)]);
    assert!(calibration.rows(0, LinearInput::Attention).values.is_empty());
}

#[test]
fn long_texts_are_sampled() {
    let mut calibration = Calibration::default();
    let rows: Vec<f32> = (0..98).map(|token| token as f32).collect();
    calibration.keep(0, LinearInput::Output, 1, &rows, 48);
    let kept: Vec<f32> = calibration.rows(0, LinearInput::Output).values.iter().map(|value| value.to_f32()).collect();
    assert_eq!(kept[..3], [0.0, 3.0, 6.0]);
    assert_eq!(kept.len(), rows.len().div_ceil(3));
}

#[test]
fn every_text_is_represented() {
    assert_eq!(tokens_per_text(&[]), MAX_TOKENS_PER_TEXT);
    assert_eq!(tokens_per_text(&[10_000, 3]), MAX_TOKENS_PER_TEXT);
    // 100 texts leave 40 tokens for each.
    assert_eq!(tokens_per_text(&[40; 100]), MAX_TOKENS_PER_TEXT);
    assert_eq!(tokens_per_text(&[41; 100]), 40);
    assert_eq!(tokens_per_text(&[500; MAX_TOKENS]), 1);
    assert_eq!(tokens_per_text(&[1; MAX_TOKENS + 1]), 1, "the last text is left out");
}

#[test]
fn calibration_texts_are_not_part_of_any_reference_text() {
    let texts: Vec<&str> = TEXTS.lines().chain(FURTHER_TEXTS.lines()).collect();
    assert!(texts.len() > 270);
    for set in REFERENCES {
        let set = ReferenceSet::parse(set, Path::new("built in")).expect("a reference set");
        for text in texts.iter().filter(|text| !text.trim().is_empty()) {
            // A short word may occur in a reference text, but must not be one.
            let shared = |other: &str| if text.len() < 8 { other.trim() == *text } else { other.contains(text) };
            let found = set.texts.iter().find(|reference| shared(&reference.text));
            assert!(found.is_none(), "{text:?} is in {:?}", found.map(|reference| &reference.id));
        }
    }
}

#[test]
fn calibration_texts_are_unique() {
    let texts = || TEXTS.lines().chain(FURTHER_TEXTS.lines());
    assert_eq!(texts().collect::<std::collections::BTreeSet<_>>().len(), texts().count());
}
