use std::path::Path;

use super::*;

fn texts(contents: &str) -> Vec<(String, String)> {
    let texts = parse_texts(contents, Path::new("texts")).expect("texts");
    texts.into_iter().map(|text| (text.id, text.text)).collect()
}

fn pair(id: &str, text: &str) -> (String, String) {
    (id.to_owned(), text.to_owned())
}

#[test]
fn texts_are_plain_lines_or_json_lines() {
    assert_eq!(texts("one\n\n two {\n"), [pair("line-1", "one"), pair("line-3", " two {")]);
    let json = "{\"text\": \"one\"}\n{\"id\": \"b\", \"text\": \"two\", \"label\": 1}\n";
    assert_eq!(texts(json), [pair("line-1", "one"), pair("b", "two")]);
}

#[test]
fn a_json_line_that_is_broken_is_named() {
    let error =
        parse_texts("{\"text\": \"one\"}\n{\"txt\": 1}\n", Path::new("a.jsonl")).expect_err("broken").to_string();
    assert!(error.starts_with("a.jsonl, line 2: ") && error.contains("text"), "{error}");
    let error = parse_texts(" \n", Path::new("a.txt")).expect_err("empty").to_string();
    assert!(error.starts_with("a.txt: it has no texts"), "{error}");
}

#[test]
fn every_text_is_in_a_batch_with_others_and_one_batch_has_all_lengths() {
    for count in [0, 1, 7, 8, 9, 33, 253] {
        let lengths: Vec<usize> = (0..count).map(|place| 3 + (place * 7) % 101).collect();
        let mut batches = mixed_batches(&lengths);
        assert!(batches.iter().all(|batch| (1..=BATCH).contains(&batch.len())), "{count}");
        let spread = batches.pop().unwrap_or_default();
        if count > BATCH {
            let of_batch = || spread.iter().map(|&place| lengths[place]);
            assert_eq!(of_batch().max(), lengths.iter().max().copied());
            assert!(of_batch().min() < of_batch().max().map(|most| most / 3), "{spread:?}");
        }
        let mut all: Vec<usize> = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..count).collect::<Vec<_>>());
    }
}
