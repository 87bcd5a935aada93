use serde_json::json;

use std::path::Path;

use super::*;

/// A tokenizer that splits at whitespace. All words of its vocabulary are lowercase.
fn tokenizer(lowercase: bool) -> Tokenizer {
    let special = |id: u32, name: &str| {
        json!({
            "id": id, "content": name, "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    let file = json!({
        "version": "1.0",
        "added_tokens": [special(0, "<s>"), special(1, "</s>")],
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": { "type": "BertProcessing", "cls": ["<s>", 0], "sep": ["</s>", 1] },
        "model": {
            "type": "WordLevel",
            "vocab": { "<s>": 0, "</s>": 1, "<unk>": 2, "i\u{307}b": 3, "k\u{e9}": 4 },
            "unk_token": "<unk>",
        },
    });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, file.to_string()).expect("write");
    Tokenizer::read(&path, 8, lowercase).expect("a tokenizer")
}

fn token(id: u32, text: &str, bytes: Option<Range<usize>>) -> Token {
    Token { id, text: text.to_owned(), bytes }
}

#[test]
fn tokens_refer_to_parts_of_the_original_text() {
    // The capital I with a dot grows from 2 bytes to 3 in lowercase; the Kelvin sign shrinks from 3 to 1.
    let text = "\u{130}B  \u{212a}\u{c9} x";
    let found = tokenizer(true).tokens("\u{130}B  \u{212a}\u{c9} x", true);
    let first = token(3, "\u{130}B", Some(0..3));
    let second = token(4, "\u{212a}\u{c9}", Some(5..10));
    let start = token(0, "<s>", None);
    let end = token(1, "</s>", None);
    let expected = [start, first.clone(), second.clone(), token(2, "x", Some(11..12)), end];
    assert_eq!(found.expect("tokens"), expected);
    assert_eq!(tokenizer(true).tokens(text, false).expect("tokens"), expected[1..4]);
    let unknown = [(first, 2), (second, 2)].map(|(token, id)| Token { id, ..token });
    assert_eq!(tokenizer(false).tokens(text, false).expect("tokens")[..2], unknown);
}

#[test]
fn decoding_ignores_ids_outside_the_vocabulary() {
    let tokenizer = tokenizer(false);
    assert_eq!(tokenizer.decode(&[0, 4, 99, 3, 1], false).as_deref(), Ok("k\u{e9} i\u{307}b"));
    assert_eq!(tokenizer.decode(&[0, 4, 1], true).as_deref(), Ok("<s> k\u{e9} </s>"));
}

#[test]
fn templates_that_contradict_themselves_are_rejected() {
    let token = |name: &str| json!({ "SpecialToken": { "id": name, "type_id": 0 } });
    let text = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
    let parse = |single: serde_json::Value| {
        let template = json!({
            "type": "TemplateProcessing", "single": single, "pair": [],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [0], "tokens": ["<s>"] } },
        });
        let file = json!({
            "version": "1.0", "added_tokens": [],
            "post_processor": { "type": "Sequence", "processors": [template] },
            "model": { "type": "WordLevel", "vocab": { "<s>": 0, "a": 1 }, "unk_token": "<s>" },
        });
        let parsed = Tokenizer::parse(file.to_string().as_bytes(), Path::new("tokenizer.json"), 8, false);
        parsed.map(|tokenizer| tokenizer.prefix).map_err(|error| error.to_string())
    };
    assert_eq!(parse(json!([token("<s>"), text("A")])), Ok(vec![0]));
    let cases = [
        (json!([token("</s>"), text("A")]), "its template has the token `</s>`, which is missing in special_tokens"),
        (json!([text("A"), text("B")]), "its template for a single text has a second text"),
        (json!([text("A"), text("A")]), "its special tokens do not surround the text"),
        (json!([token("<s>")]), "its special tokens do not surround the text"),
    ];
    for (single, expected) in cases {
        let error = parse(single).expect_err("an inconsistent template");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_prompt_and_its_text_are_tokenized_as_one() {
    let tokenizer = tokenizer(true);
    let ids = |text: &str, prompt: &str, truncation| {
        let prompt = tokenizer.prompt(prompt, false).expect("a prompt");
        tokenizer.tokenize_with(text, Some(&prompt), truncation).expect("tokens")
    };
    // The prompt ends within a word.
    for (prompt, text) in [("\u{212a}", "\u{c9} x"), ("x ", "k\u{e9}"), ("", "k\u{e9}"), ("k\u{e9}", "")] {
        let whole = tokenizer.tokenize(&format!("{prompt}{text}"), Truncation::End).expect("tokens");
        assert_eq!(ids(text, prompt, Truncation::End), whole, "{prompt:?} {text:?}");
        assert_eq!(whole.ids.excluded(), 0);
    }
    // 6 of 8 tokens are those of the text.
    let text = "k\u{e9} x x x x";
    assert_eq!(ids(text, "x k\u{e9} ", Truncation::End).ids.as_slice(), [0, 2, 4, 4, 2, 2, 2, 1]);
    assert_eq!(ids(text, "x k\u{e9} ", Truncation::Start).ids.as_slice(), [0, 4, 4, 2, 2, 2, 2, 1]);
}

#[test]
fn the_tokens_of_a_prompt_are_excluded_as_in_sentence_transformers() {
    let tokenizer = tokenizer(false);
    let excluded = |prompt: &str, text: &str, truncation| {
        let prompt = tokenizer.prompt(prompt, true).expect("a prompt");
        let tokenized = tokenizer.tokenize_with(text, Some(&prompt), truncation).expect("tokens");
        (tokenized.ids.len(), tokenized.ids.excluded())
    };
    // <s>, and the tokens of the prompt, but not </s>.
    assert_eq!(excluded("x x ", "x", Truncation::End), (5, 3));
    assert_eq!(excluded("x x ", "", Truncation::End), (4, 3));
    // An empty prompt is like none.
    assert_eq!(excluded("", "x", Truncation::End), (3, 0));
    // The last word of the prompt merges with the text.
    assert_eq!(excluded("x x", "x x", Truncation::End), (5, 3));
    // A prompt that fills all tokens but </s>.
    assert_eq!(excluded(&"x ".repeat(20), "x", Truncation::End), (8, 7));
    // Two tokens of the prompt are dropped, or all of them.
    assert_eq!(excluded("x x x ", "x x x x x", Truncation::Start), (8, 2));
    assert_eq!(excluded("x x x ", &"x ".repeat(9), Truncation::Start), (8, 1));
}

#[test]
fn a_special_token_at_the_end_of_a_prompt_is_pooled_as_in_sentence_transformers() {
    let token = json!({ "id": 1, "content": "<mask>", "special": true, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false });
    let file = json!({
        "version": "1.0", "added_tokens": [token], "pre_tokenizer": { "type": "WhitespaceSplit" },
        "model": { "type": "WordLevel", "vocab": { "x": 0, "<mask>": 1 }, "unk_token": "x" },
    });
    let tokenizer = Tokenizer::parse(file.to_string().as_bytes(), Path::new("tokenizer.json"), 8, false);
    let tokenizer = tokenizer.expect("a tokenizer");
    for (text, excluded) in [("x x ", 2), ("x <mask> ", 1), ("<mask> x ", 2)] {
        let prompt = tokenizer.prompt(text, true).expect("a prompt");
        let tokenized = tokenizer.tokenize_with("x", Some(&prompt), Truncation::End).expect("tokens");
        assert_eq!((tokenized.ids.len(), tokenized.ids.excluded()), (3, excluded), "{text}");
    }
}

mod equal;

#[test]
fn the_unknown_token_is_found_in_every_kind_of_model() {
    let unknown_id = |model: serde_json::Value| {
        let file = json!({ "version": "1.0", "added_tokens": [], "model": model });
        let parsed = Tokenizer::parse(file.to_string().as_bytes(), Path::new("tokenizer.json"), 8, false);
        parsed.expect("a tokenizer").unknown_id()
    };
    let words = json!({ "a": 0, "<unk>": 1 });
    assert_eq!(unknown_id(json!({ "type": "WordLevel", "vocab": words, "unk_token": "<unk>" })), Some(1));
    let bpe = |token: Option<&str>| json!({ "type": "BPE", "vocab": words, "merges": [], "unk_token": token });
    assert_eq!((unknown_id(bpe(Some("<unk>"))), unknown_id(bpe(None))), (Some(1), None));
    let pieces = json!([["a", -1.0], ["b", -2.0], ["<unk>", 0.0]]);
    assert_eq!(unknown_id(json!({ "type": "Unigram", "vocab": pieces, "unk_id": 2 })), Some(2));
}
