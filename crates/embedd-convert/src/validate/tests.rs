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
fn texts_can_be_plain_lines_or_json_lines() {
    assert_eq!(texts("one\n\n two {\n"), [pair("line-1", "one"), pair("line-3", " two {")]);
    let json = "{\"text\": \"one\"}\n{\"id\": \"b\", \"text\": \"two\", \"label\": 1}\n";
    assert_eq!(texts(json), [pair("line-1", "one"), pair("b", "two")]);
}

#[test]
fn the_error_for_an_invalid_json_line_has_its_number() {
    let error = parse_texts("{\"text\": \"one\"}\n{\"txt\": 1}\n", Path::new("a.jsonl"))
        .expect_err("an invalid line")
        .to_string();
    assert!(error.starts_with("a.jsonl, line 2: ") && error.contains("text"), "{error}");
    let error = parse_texts(" \n", Path::new("a.txt")).expect_err("an empty file").to_string();
    assert!(error.starts_with("a.txt: the file has no texts"), "{error}");
}

#[test]
fn each_text_is_in_one_batch_and_one_more_batch_has_all_lengths() {
    for count in [0, 1, 7, 8, 9, 33, 253] {
        let lengths: Vec<usize> = (0..count).map(|index| 3 + (index * 7) % 101).collect();
        let mut batches = mixed_batches(&lengths);
        assert!(batches.iter().all(|batch| (1..=BATCH).contains(&batch.len())), "{count}");
        let spread = batches.pop().unwrap_or_default();
        if count > BATCH {
            let of_batch = || spread.iter().map(|&index| lengths[index]);
            assert_eq!(of_batch().max(), lengths.iter().max().copied());
            assert!(of_batch().min() < of_batch().max().map(|max| max / 3), "{spread:?}");
        }
        let mut all: Vec<usize> = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..count).collect::<Vec<_>>());
    }
}
