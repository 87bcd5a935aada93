use serde_json::json;

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

mod equal;
