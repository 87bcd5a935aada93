use std::num::NonZeroUsize;

use serde_json::{Value as Json, json};

use super::*;
use crate::model_names::ModelNames;
use crate::request::Input;
use embedd_model::bundle::{Pooling, Variant};
use embedd_model::tokenize::Truncation;
use embedd_model::{PromptChoice, Prompts};

const LIMITS: Limits = Limits {
    max_texts: NonZeroUsize::new(3).expect("not zero"),
    max_text_bytes: 8,
    truncates_any_size: true,
    dimension: 384,
};

fn model() -> ModelInfo {
    ModelInfo {
        names: ModelNames::of("owner/model"),
        fingerprint: String::new(),
        revision: String::new(),
        variant: Variant::Native,
        gpu: None,
        instruction_set: String::new(),
        quantization: String::new(),
        accuracy: None,
        pooling: Pooling::mean(),
        default_truncation: Truncation::Start,
        prompts: Prompts::default(),
        own_default_prompt: PromptChoice::None,
        ranges: None,
        runtime_version: String::new(),
        sessions: 1,
        threads: 1,
    }
}

fn read(body: &str) -> Result<Call, Refusal> {
    embeddings(body.as_bytes(), &model(), &LIMITS)
}

/// The status, the field and the message.
fn error_of(body: &str) -> (u16, Json, String) {
    let refusal = read(body).expect_err(body);
    (refusal.status.as_u16(), json!(refusal.param), refusal.message)
}

#[test]
fn a_text_or_a_list_of_texts_is_read_with_its_options() {
    let call = read(r#" {"input": "é", "model": "owner/model"}"#).expect("valid");
    assert_eq!((call.request.inputs(), call.encoder.encoding), (&["é".to_owned().into()][..], Encoding::Float));
    assert_eq!((call.request.dimensions(), call.texts), (384, TextField::Single("input")));
    let options = call.request.options();
    assert!(
        options.normalize && !options.skip_cache && options.truncation == TruncationChoice::Default(Truncation::Start)
    );

    let call = read(
        r#"{"model": "model", "input": ["a", "", "b"], "encoding_format": "base64", "dimensions": 7, "user": 1,
            "of_next_year": {"deep": [[]]}}"#,
    );
    let call = call.expect("valid");
    assert_eq!((call.request.inputs().len(), call.request.dimensions()), (3, 7));
    assert_eq!((call.encoder.encoding, call.texts), (Encoding::Base64, TextField::List("input")));

    let float = read(r#"{"input": "a", "dimensions": 16.0}"#).expect("one model is served; 16.0 is an integer");
    assert_eq!(float.request.dimensions(), 16);

    let nulls = r#"{"model": null, "input": ["a"], "encoding_format": null, "dimensions": null, "user": null}"#;
    let call = read(nulls).expect("null counts as absent");
    assert_eq!((call.request.dimensions(), call.encoder.encoding), (384, Encoding::Float));
}

#[test]
fn an_invalid_request_is_rejected_with_the_field_and_the_reason() {
    for (field, value, param, part) in [
        ("input", json!(null), "input", "is missing"),
        ("input", json!(3), "input", "is a number; send a string, a list of strings, or token ids"),
        ("input", json!({"text": "a"}), "input", "is an object"),
        ("input", json!(true), "input", "is a boolean"),
        ("input", json!([]), "input", "send 1 to 3 texts"),
        ("input", json!(["a", "b", "c", "d"]), "input", "has 4 texts"),
        ("input", json!(["a", null]), "input[1]", "is null; send a string"),
        ("input", json!(["a", "b", {}, 4]), "input[2]", "is an object"),
        ("input", json!(["a", "123456789"]), "input[1]", "has 9 bytes"),
        ("input", json!("123456789"), "input", "has 9 bytes"),
        ("input", json!([1, -2]), "input", "has `-2` at position 1, which is not a token id"),
        ("input", json!([1, "a"]), "input", "has `\"a\"` at position 1"),
        ("input", json!([[1, 2], [3.5]]), "input[1]", "has `3.5` at position 0"),
        ("input", json!([[5_000_000_000_u64]]), "input[0]", "not a token id"),
        ("input", json!([1, 2, 3, 4, 5, 6, 7, 8, 9]), "input", "has 9 token ids; the maximum is 8"),
        ("input", json!([[]]), "input[0]", "is an empty list; send a string or a list of token ids"),
        ("input", json!(["a", 1]), "input[1]", "is a number; send a string"),
        ("input", json!([["a"]]), "input[0]", "is a list that begins with a string; send a string"),
        ("input", json!([[{"a": 1}, 2]]), "input[0]", "is a list that begins with an object"),
        ("model", json!(["model"]), "model", "is a list"),
        ("encoding_format", json!("hex"), "encoding_format", "is `hex`; send `float`, `base64`, "),
        ("encoding_format", json!(1), "encoding_format", "is a number"),
        ("dimensions", json!(0), "dimensions", "is 0; must be from 1 to 384, the model's dimension"),
        ("dimensions", json!(385), "dimensions", "is 385;"),
        ("dimensions", json!(5_000_000_000_u64), "dimensions", "is 5000000000;"),
        ("dimensions", json!(-1), "dimensions", "not a positive integer"),
        ("dimensions", json!(2.5), "dimensions", "not a positive integer"),
        ("dimensions", json!(-1.0), "dimensions", "not a positive integer"),
        ("dimensions", json!(1e300), "dimensions", "not a positive integer"),
        ("dimensions", json!(385.0), "dimensions", "is 385;"),
        ("dimensions", json!("7"), "dimensions", "is a string; must be from 1 to 384, the model's dimension"),
    ] {
        let mut body = json!({"input": "a", "model": "model"});
        body[field] = value;
        let (status, named, message) = error_of(&body.to_string());
        assert_eq!((status, named), (400, json!(param)), "{body}: {message}");
        assert!(message.contains(part), "{body}: {message}");
    }
}

#[test]
fn every_invalid_field_is_reported_at_once() {
    let (_, _, message) = error_of(r#"{"model": [], "input": [-1], "encoding_format": 0, "dimensions": 999}"#);
    for part in ["model is a list", "encoding_format is a number", "dimensions is 999", "input has `-1` at position 0"]
    {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn an_unknown_model_is_not_found_whatever_else_is_invalid() {
    for name in ["", "other", "owner", "MODEL", "owner/model/"] {
        let (status, param, message) = error_of(&json!({"model": name, "dimensions": 0}).to_string());
        assert_eq!((status, param), (404, json!("model")));
        assert!(message.contains("this server has `owner/model` (or `model`)"), "{message}");
    }
}

#[test]
fn a_body_that_is_not_a_json_object_is_rejected() {
    for body in ["", "[]", r#"["a", "model"]"#, "null", "\"a\"", "texts=a"] {
        assert!(error_of(body).2.contains("not a JSON object"), "{body}");
    }
    for body in ["{", "{\"input\": \"a\"", "{} x", "{\"input\": \"\u{1}\"}"] {
        assert!(error_of(body).2.contains("not valid JSON"), "{body}");
    }
    for deep in ["{\"input\": [", "{\"of_next_year\": [", "{\"input\": [\"a\", \"b\", \"c\", \"d\", ["] {
        let body = format!("{deep}{}{}}}", "[".repeat(100_000), "]".repeat(100_001));
        assert!(error_of(&body).2.contains("not valid JSON"), "{deep}");
    }
    let twice = r#"{"input": "a", "model": "model", "input": "b"}"#;
    assert!(error_of(twice).2.contains("duplicate field `input`"));
    assert!(embeddings(b"{\"input\": \"\xff\"}", &model(), &LIMITS).is_err());
}

#[test]
fn token_ids_of_one_text_or_of_several_are_read() {
    let ids = |body: &str| read(body).expect("valid");
    let call = ids(r#"{"input": [101, 7592.0, 102]}"#);
    assert_eq!(call.request.inputs(), [Input::TokenIds(vec![101, 7592, 102])]);
    assert_eq!(call.texts, TextField::Single("input"));
    let call = ids(r#"{"input": [[1, 2], [3], "and text"]}"#);
    let expected = [vec![1, 2].into(), vec![3].into(), "and text".to_owned().into()];
    assert_eq!((call.request.inputs(), call.texts), (&expected[..], TextField::List("input")));
}

#[test]
fn half_of_a_character_is_reported_with_its_text() {
    // JavaScript cuts strings between the halves of a surrogate pair.
    for body in [r#"{"input": ["whole", "half \ud83d"]}"#, r#"{"input": ["\ude00", "whole"]}"#] {
        let (status, param, message) = error_of(body);
        let index = usize::from(body.contains("half"));
        assert_eq!((status, param), (400, json!(format!("input[{index}]"))), "{message}");
        assert!(message.contains("half of a surrogate pair"), "{message}");
    }
    assert!(read(r#"{"input": ["whole \ud83d\ude00"]}"#).is_err(), "12 bytes are more than 8");
    assert!(read(r#"{"input": ["\ud83d\ude00"]}"#).is_ok());
}

#[test]
fn millions_of_elements_are_counted_without_being_kept() {
    let list = |element: &str| vec![element; 300_000].join(",");
    for (element, expected) in [
        ("\"\"", "input has 300000 texts; send at most 3 per request"),
        ("7", "input has 300000 token ids; the maximum is 8"),
        ("[7]", "input has 300000 texts; send at most 3 per request"),
        ("[]", "input[0] is an empty list; send a string or a list of token ids"),
        ("{\"a\": [\"b\"]}", "input[0] is an object; send a string or a list of token ids"),
    ] {
        let (status, _, message) = error_of(&format!("{{\"model\": \"model\", \"input\": [{}]}}", list(element)));
        assert_eq!((status, message.as_str()), (400, expected));
    }
}
