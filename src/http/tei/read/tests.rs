use std::num::NonZeroUsize;

use serde_json::{Value, json};

use super::*;
use crate::fuzzing::model;

const LIMITS: Limits = Limits {
    max_texts: NonZeroUsize::new(3).expect("not zero"),
    max_text_bytes: 8,
    truncates_any_size: true,
    dimension: 384,
};

fn read(body: &Value) -> Result<Call, (u16, Option<String>, String)> {
    let call = embed(body.to_string().as_bytes(), &model(), &LIMITS);
    call.map_err(|refusal| (refusal.status.as_u16(), refusal.param, refusal.message))
}

#[test]
fn texts_and_token_ids_are_read_with_their_options() {
    let call = read(&json!({"inputs": "text"})).expect("valid");
    assert_eq!((call.request.inputs(), call.texts), (&["text".to_owned().into()][..], TextField::Single("inputs")));
    assert_eq!(call.request.options(), &EmbedOptions::default());

    let call = read(&json!({"inputs": ["a", [1, 2]], "normalize": false, "dimensions": 4, "prompt_name": ""}));
    let call = call.expect("valid");
    assert_eq!(call.request.inputs(), ["a".to_owned().into(), vec![1, 2].into()]);
    let expected =
        EmbedOptions { normalize: false, dimensions: Some(4), prompt: PromptChoice::None, ..EmbedOptions::default() };
    assert_eq!((call.request.options(), call.texts), (&expected, TextField::List("inputs")));
}

#[test]
fn a_request_may_ask_for_truncation_of_texts_of_any_size() {
    let truncation = |body: Value| read(&body).map(|call| call.request.options().truncation);
    for (options, expected) in [
        (json!({}), TruncationChoice::Default(Truncation::End)),
        (json!({"truncate": null}), TruncationChoice::Default(Truncation::End)),
        (json!({"truncation_direction": "left"}), TruncationChoice::Default(Truncation::Start)),
        (json!({"truncate": true}), TruncationChoice::Requested(Truncation::End)),
        (json!({"truncate": true, "truncation_direction": "Left"}), TruncationChoice::Requested(Truncation::Start)),
        (json!({"truncate": false, "truncation_direction": "Left"}), TruncationChoice::Requested(Truncation::Reject)),
    ] {
        let mut body = options.clone();
        body["inputs"] = json!("short");
        assert_eq!(truncation(body.clone()), Ok(expected), "{options}");
        body["inputs"] = json!("more than 8 bytes");
        let is_any_size = matches!(expected, TruncationChoice::Requested(Truncation::End | Truncation::Start));
        assert_eq!(truncation(body).is_ok(), is_any_size, "{options}");
    }
}

#[test]
fn invalid_fields_are_reported() {
    for (body, param) in [
        (json!({}), "inputs"),
        (json!({"inputs": 1}), "inputs"),
        (json!({"inputs": "a", "truncate": "yes"}), "truncate"),
        (json!({"inputs": "a", "truncation_direction": "up"}), "truncation_direction"),
        (json!({"inputs": "a", "normalize": 1}), "normalize"),
        (json!({"inputs": "a", "prompt_name": "query"}), "prompt_name"),
        (json!({"inputs": ["a", "b", "c", "d"]}), "inputs"),
    ] {
        let (status, found, message) = read(&body).expect_err("invalid");
        assert_eq!((status, found.as_deref()), (400, Some(param)), "{body}: {message}");
    }
}

#[test]
fn sentences_are_compared_with_the_source_sentence() {
    let read = |body: Value| similarity(body.to_string().as_bytes(), &model(), &LIMITS);
    let body = json!({"inputs": {"source_sentence": "a", "sentences": ["b", "c"]}, "parameters": {"truncate": false}});
    let request = read(body).expect("valid");
    assert_eq!(request.inputs(), ["a", "b", "c"].map(|text| Input::from(text.to_owned())));
    assert_eq!(request.options().truncation, TruncationChoice::Requested(Truncation::Reject));
    for (body, param) in [
        (json!({}), "inputs"),
        (json!({"inputs": "a"}), "inputs"),
        (json!({"inputs": {"sentences": ["b"]}}), "inputs.source_sentence"),
        (json!({"inputs": {"source_sentence": "a"}}), "inputs.sentences"),
        (json!({"inputs": {"source_sentence": "a", "sentences": []}}), "inputs.sentences"),
        (json!({"inputs": {"source_sentence": "a", "sentences": ["b", 1]}}), "inputs.sentences[1]"),
        (json!({"inputs": {"source_sentence": "a", "sentences": ["b", "c", "d"]}}), "inputs.sentences"),
        (json!({"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": []}), "parameters"),
    ] {
        assert_eq!(read(body.clone()).expect_err("invalid").param.as_deref(), Some(param), "{body}");
    }
    assert!(is_similarity(json!({"inputs": {"sentences": []}}).to_string().as_bytes()).expect("an object"));
    assert!(!is_similarity(br#"{"inputs": "a"}"#).expect("an object"));
}

#[test]
fn tokens_are_requested_and_decoded() {
    let call = tokenize(br#"{"inputs": "a", "add_special_tokens": false}"#, &LIMITS).expect("valid");
    assert_eq!((call.texts.as_slice(), call.with_special_tokens), (&["a".to_owned()][..], false));
    let call = tokenize(br#"{"inputs": ["a", "b"]}"#, &LIMITS).expect("valid");
    assert_eq!((call.texts.as_slice().len(), call.with_special_tokens), (2, true));
    for body in [&br#"{"inputs": [1]}"#[..], b"{}", br#"{"inputs": []}"#, br#"{"inputs": "123456789"}"#] {
        assert!(tokenize(body, &LIMITS).is_err(), "{}", String::from_utf8_lossy(body));
    }
    let call = decode(br#"{"ids": [1, 2]}"#, &LIMITS).expect("valid");
    assert_eq!((call.ids, call.skip_special_tokens), (vec![vec![1, 2]], true));
    let call = decode(br#"{"ids": [[1], [2, 3]], "skip_special_tokens": false}"#, &LIMITS).expect("valid");
    assert_eq!((call.ids, call.skip_special_tokens), (vec![vec![1], vec![2, 3]], false));
    for body in [&br#"{"ids": "1"}"#[..], b"{}", br#"{"ids": [[]]}"#, br#"{"ids": ["a"]}"#, br#"{"ids": [-1]}"#] {
        assert!(decode(body, &LIMITS).is_err(), "{}", String::from_utf8_lossy(body));
    }
}
