use serde_json::json;

use super::*;

/// Words between blanks, of a vocabulary of lower-case ones.
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
    Tokenizer::read(&path, 8, lowercase).expect("a tokeniser")
}

fn token(id: u32, text: &str, bytes: Option<Range<usize>>) -> Token {
    Token { id, text: text.to_owned(), bytes }
}

#[test]
fn tokens_stand_for_parts_of_the_text_as_it_came() {
    // The capital I with a dot has 2 bytes, and 3 in lower case; the Kelvin sign has 3, and 1.
    let (text, found) = ("\u{130}B  \u{212a}\u{c9} x", tokenizer(true).tokens("\u{130}B  \u{212a}\u{c9} x", true));
    let (first, second) = (token(3, "\u{130}B", Some(0..3)), token(4, "\u{212a}\u{c9}", Some(5..10)));
    let (start, end) = (token(0, "<s>", None), token(1, "</s>", None));
    let expected = [start, first.clone(), second.clone(), token(2, "x", Some(11..12)), end];
    assert_eq!(found.expect("tokens"), expected);
    assert_eq!(tokenizer(true).tokens(text, false).expect("tokens"), expected[1..4]);
    let unknown = [(first, 2), (second, 2)].map(|(token, id)| Token { id, ..token });
    assert_eq!(tokenizer(false).tokens(text, false).expect("tokens")[..2], unknown);
}

#[test]
fn ids_become_a_text_and_those_that_there_are_not_are_passed_over() {
    let tokenizer = tokenizer(false);
    assert_eq!(tokenizer.decode(&[0, 4, 99, 3, 1], false).as_deref(), Ok("k\u{e9} i\u{307}b"));
    assert_eq!(tokenizer.decode(&[0, 4, 1], true).as_deref(), Ok("<s> k\u{e9} </s>"));
}
