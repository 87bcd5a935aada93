use std::num::NonZeroUsize;

use axum::body::to_bytes;
use axum::response::IntoResponse as _;
use serde_json::{Value as Json, json};

use super::*;
use embedd_model::bundle::{Pooling, Variant};
use embedd_model::tokenize::Truncation;

const LIMITS: Limits = Limits { max_texts: NonZeroUsize::new(3).expect("not zero"), max_text_bytes: 8, dimension: 384 };

fn model() -> ModelInfo {
    ModelInfo {
        name: "owner/model".to_owned(),
        fingerprint: String::new(),
        revision: String::new(),
        variant: Variant::Native,
        instruction_set: String::new(),
        quantization: String::new(),
        accuracy: None,
        pooling: Pooling::Mean,
        default_truncation: Truncation::Start,
        runtime_version: String::new(),
        sessions: 1,
        threads: 1,
    }
}

fn read(body: &str) -> Result<Asked, Refusal> {
    embeddings(body.as_bytes(), &model(), &LIMITS)
}

/// The status, the field and the message.
async fn refused(body: &str) -> (u16, Json, String) {
    let response = read(body).expect_err(body).into_response();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 16).await.expect("a body");
    let body: Json = serde_json::from_slice(&body).expect("JSON");
    let error = &body["error"];
    (status, error["param"].clone(), error["message"].as_str().expect("a message").to_owned())
}

#[test]
fn a_text_or_a_list_of_them_is_read_with_its_options() {
    let asked = read(r#" {"input": "é", "model": "owner/model"}"#).expect("valid");
    assert_eq!((asked.request.texts(), asked.encoding), (&["é".to_owned()][..], Encoding::Float));
    assert_eq!((asked.request.dimensions(), asked.texts), (384, TextField::Single("input")));
    let options = asked.request.options();
    assert!(options.normalize && !options.skip_cache && options.truncation == Truncation::Start);

    let asked = read(
        r#"{"model": "model", "input": ["a", "", "b"], "encoding_format": "base64", "dimensions": 7, "user": 1,
            "of_next_year": {"deep": [[]]}}"#,
    );
    let asked = asked.expect("valid");
    assert_eq!((asked.request.texts().len(), asked.request.dimensions()), (3, 7));
    assert_eq!((asked.encoding, asked.texts), (Encoding::Base64, TextField::List("input")));

    let nulls = r#"{"model": "model", "input": ["a"], "encoding_format": null, "dimensions": null, "user": null}"#;
    let asked = read(nulls).expect("as if they were not there");
    assert_eq!((asked.request.dimensions(), asked.encoding), (384, Encoding::Float));
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_field() {
    let tokens = "another model's tokeniser";
    for (field, value, param, part) in [
        ("input", json!(null), "input", "is missing"),
        ("input", json!(3), "input", "is a number; send a string or a list"),
        ("input", json!({"text": "a"}), "input", "is an object"),
        ("input", json!(true), "input", "is a boolean"),
        ("input", json!([]), "input", "send 1 to 3 texts"),
        ("input", json!(["a", "b", "c", "d"]), "input", "has 4 texts"),
        ("input", json!(["a", null]), "input[1]", "is null; send a string"),
        ("input", json!(["a", "b", {}, 4]), "input[2]", "is an object"),
        ("input", json!(["a", "123456789"]), "input[1]", "has 9 bytes"),
        ("input", json!("123456789"), "input", "has 9 bytes"),
        ("input", json!([1, 2]), "input", tokens),
        ("input", json!([[1, 2], [3]]), "input", tokens),
        ("input", json!([[]]), "input", tokens),
        ("model", json!(null), "model", "is missing; this server has `owner/model` (or `model` for short)"),
        ("model", json!(["model"]), "model", "is a list"),
        ("encoding_format", json!("hex"), "encoding_format", "is `hex`; there are `float` and `base64`"),
        ("encoding_format", json!(1), "encoding_format", "is a number"),
        ("dimensions", json!(0), "dimensions", "is 0; the model's vectors allow 1 to 384"),
        ("dimensions", json!(385), "dimensions", "is 385;"),
        ("dimensions", json!(5_000_000_000_u64), "dimensions", "is 5000000000;"),
        ("dimensions", json!(-1), "dimensions", "no whole number"),
        ("dimensions", json!(2.5), "dimensions", "no whole number"),
        ("dimensions", json!("7"), "dimensions", "is a string; the model's vectors allow 1 to 384"),
    ] {
        let mut body = json!({"input": "a", "model": "model"});
        body[field] = value;
        let (status, named, message) = refused(&body.to_string()).await;
        assert_eq!((status, named), (400, json!(param)), "{body}: {message}");
        assert!(message.contains(part), "{body}: {message}");
    }
}

#[tokio::test]
async fn everything_wrong_is_told_at_once() {
    let (_, _, message) = refused(r#"{"input": [1], "encoding_format": 0, "dimensions": 999}"#).await;
    for part in ["model is missing", "encoding_format is a number", "dimensions is 999", "input has tokens"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn another_model_is_not_found_whatever_else_is_wrong() {
    for name in ["", "other", "owner", "MODEL", "owner/model/"] {
        let (status, param, message) = refused(&json!({"model": name, "dimensions": 0}).to_string()).await;
        assert_eq!((status, param), (404, json!("model")));
        assert!(message.contains("this server has `owner/model` (or `model` for short)"), "{message}");
    }
}

#[tokio::test]
async fn what_is_no_json_object_is_told_as_such() {
    for body in ["", "[]", r#"["a", "model"]"#, "null", "\"a\"", "texts=a"] {
        assert!(refused(body).await.2.contains("no JSON object"), "{body}");
    }
    for body in ["{", "{\"input\": \"a\"", "{} x", "{\"input\": \"\u{1}\"}", r#"{"input": "\ud800"}"#] {
        assert!(refused(body).await.2.contains("no JSON that can be read"), "{body}");
    }
    let deep = format!("{{\"input\": {}", "[".repeat(100_000));
    assert!(refused(&deep).await.2.contains("no JSON that can be read"));
    assert!(embeddings(b"{\"input\": \"\xff\"}", &model(), &LIMITS).is_err());
}
