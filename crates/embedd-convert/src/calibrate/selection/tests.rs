use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::*;

fn tokenizer(pre_tokenizer: &Value, model: &Value) -> Tokenizer {
    let file = json!({ "version": "1.0", "added_tokens": [], "pre_tokenizer": pre_tokenizer, "model": model });
    Tokenizer::parse(file.to_string().as_bytes(), Path::new("tokenizer.json"), 512, false).expect("a tokenizer")
}

/// A tokenizer with all words of the further texts that `include` accepts.
fn words(include: impl Fn(&str) -> bool) -> Tokenizer {
    let words: BTreeSet<&str> =
        FURTHER_TEXTS.lines().filter(|text| include(text)).flat_map(str::split_whitespace).collect();
    let words = words.into_iter().enumerate().map(|(index, word)| (word.to_owned(), json!(index + 1)));
    let vocabulary: serde_json::Map<_, _> = words.chain([("<unk>".to_owned(), json!(0))]).collect();
    let model = json!({ "type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>" });
    tokenizer(&json!({ "type": "WhitespaceSplit" }), &model)
}

fn further(tokenizer: &Tokenizer) -> Vec<&'static str> {
    let texts = texts(tokenizer);
    let count = TEXTS.lines().count();
    assert_eq!(texts[..count], TEXTS.lines().collect::<Vec<_>>(), "every model gets the first texts");
    texts[count..].to_vec()
}

fn is_thai(text: &str) -> bool {
    share(text, |c| matches!(c, '\u{e00}'..='\u{e7f}')) > 0.5
}

#[test]
fn a_tokenizer_of_all_languages_gets_all_texts() {
    assert_eq!(further(&words(|_| true)), FURTHER_TEXTS.lines().collect::<Vec<_>>());
}

#[test]
fn texts_of_unknown_words_are_left_out() {
    let expected: Vec<&str> = FURTHER_TEXTS.lines().filter(|text| !is_thai(text)).collect();
    assert_eq!(further(&words(|text| !is_thai(text))), expected);
    assert_eq!(FURTHER_TEXTS.lines().count() - expected.len(), 2);
}

#[test]
fn a_tokenizer_of_latin_words_gets_no_further_texts() {
    let tokenizer = words(is_latin);
    assert!(FURTHER_TEXTS.lines().filter(|text| is_latin(text)).all(|text| is_covered(&tokenizer, text)));
    assert!(further(&tokenizer).is_empty());
}

#[test]
fn characters_and_bytes_cover_nothing_but_ideographs() {
    let characters: BTreeSet<char> = FURTHER_TEXTS.chars().filter(|c| !c.is_whitespace()).collect();
    let characters = characters.into_iter().enumerate().map(|(id, c)| (c.to_string(), json!(id)));
    let vocabulary: serde_json::Map<_, _> = characters.collect();
    let model = json!({ "type": "BPE", "vocab": vocabulary, "merges": [] });
    let by_character = tokenizer(&json!({ "type": "WhitespaceSplit" }), &model);
    let covered = FURTHER_TEXTS.lines().filter(|text| is_covered(&by_character, text));
    assert!(covered.clone().all(|text| share(text, is_ideographic) > 0.5) && covered.count() > 5);
    assert!(further(&by_character).is_empty());

    let bytes = (b'!'..=b'~').map(char::from).chain('¡'..='¬').chain('®'..='ÿ').chain('Ā'..='Ń');
    let vocabulary: serde_json::Map<_, _> = bytes.enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
    assert_eq!(vocabulary.len(), 256);
    let model = json!({ "type": "BPE", "vocab": vocabulary, "merges": [] });
    let by_byte = tokenizer(&json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true }), &model);
    assert!(!FURTHER_TEXTS.lines().any(|text| is_covered(&by_byte, text)));
}

#[test]
fn scripts_are_distinguished() {
    for text in ["ёлка", "θάλασσα", "한국어", "العربية", "עברית", "हिंदी", "ไทย", "日本語", "中文"]
    {
        assert!(!is_latin(text), "{text}");
    }
    for text in ["Zürich", "Hà Nội", "żółw", "let total = 2; // 変数"] {
        assert!(is_latin(text), "{text}");
    }
    for text in ["日本語", "カタカナ", "中文 100%"] {
        assert!(share(text, is_ideographic) > 0.5, "{text}");
    }
    assert!(FURTHER_TEXTS.lines().filter(|text| !is_latin(text)).count() > 25);
}
