use std::num::NonZeroUsize;

use axum::body::to_bytes;
use axum::response::IntoResponse as _;
use serde_json::{Value as Json, json};

use super::*;
use crate::model_names::ModelNames;
use embedd_model::bundle::{Pooling, Variant};
use embedd_model::tokenize::Truncation;
use embedd_model::{PromptChoice, Prompts};

const LIMITS: Limits = Limits { max_texts: NonZeroUsize::new(3).expect("not zero"), max_text_bytes: 8, dimension: 384 };

fn model() -> ModelInfo {
    ModelInfo {
        names: ModelNames::of("owner/model"),
        fingerprint: String::new(),
        revision: String::new(),
        variant: Variant::Native,
        instruction_set: String::new(),
        quantization: String::new(),
        accuracy: None,
        pooling: Pooling::mean(),
        default_truncation: Truncation::Start,
        prompts: Prompts::default(),
        own_default_prompt: PromptChoice::None,
        runtime_version: String::new(),
        sessions: 1,
        threads: 1,
    }
}

fn read(body: &str) -> Result<Call, Refusal> {
    embeddings(body.as_bytes(), &model(), &LIMITS)
}

/// The status, the field and the message.
async fn error_of(body: &str) -> (u16, Json, String) {
    let response = read(body).expect_err(body).into_response();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 16).await.expect("a body");
    let body: Json = serde_json::from_slice(&body).expect("JSON");
    let error = &body["error"];
    (status, error["param"].clone(), error["message"].as_str().expect("a message").to_owned())
}

#[test]
fn a_text_or_a_list_of_texts_is_read_with_its_options() {
    let call = read(r#" {"input": "é", "model": "owner/model"}"#).expect("valid");
    assert_eq!((call.request.texts(), call.encoding), (&["é".to_owned()][..], Encoding::Float));
    assert_eq!((call.request.dimensions(), call.texts), (384, TextField::Single("input")));
    let options = call.request.options();
    assert!(options.normalize && !options.skip_cache && options.truncation == Truncation::Start);

    let call = read(
        r#"{"model": "model", "input": ["a", "", "b"], "encoding_format": "base64", "dimensions": 7, "user": 1,
            "of_next_year": {"deep": [[]]}}"#,
    );
    let call = call.expect("valid");
    assert_eq!((call.request.texts().len(), call.request.dimensions()), (3, 7));
    assert_eq!((call.encoding, call.texts), (Encoding::Base64, TextField::List("input")));

    let float = read(r#"{"input": "a", "dimensions": 16.0}"#).expect("one model is served; 16.0 is an integer");
    assert_eq!(float.request.dimensions(), 16);

    let nulls = r#"{"model": null, "input": ["a"], "encoding_format": null, "dimensions": null, "user": null}"#;
    let call = read(nulls).expect("null counts as absent");
    assert_eq!((call.request.dimensions(), call.encoding), (384, Encoding::Float));
}

#[tokio::test]
async fn an_invalid_request_is_rejected_with_the_field_and_the_reason() {
    let tokens = "another model's tokenizer";
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
        ("input", json!(["a", 1]), "input[1]", "is a number; send a string"),
        ("input", json!([["a"]]), "input[0]", "is a list; send a string"),
        ("input", json!([[{"a": 1}, 2]]), "input[0]", "is a list; send a string"),
        ("model", json!(["model"]), "model", "is a list"),
        ("encoding_format", json!("hex"), "encoding_format", "is `hex`; use `float` or `base64`"),
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
        let (status, named, message) = error_of(&body.to_string()).await;
        assert_eq!((status, named), (400, json!(param)), "{body}: {message}");
        assert!(message.contains(part), "{body}: {message}");
    }
}

#[tokio::test]
async fn every_invalid_field_is_reported_at_once() {
    let (_, _, message) = error_of(r#"{"model": [], "input": [1], "encoding_format": 0, "dimensions": 999}"#).await;
    for part in ["model is a list", "encoding_format is a number", "dimensions is 999", "input has token ids"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn an_unknown_model_is_not_found_whatever_else_is_invalid() {
    for name in ["", "other", "owner", "MODEL", "owner/model/"] {
        let (status, param, message) = error_of(&json!({"model": name, "dimensions": 0}).to_string()).await;
        assert_eq!((status, param), (404, json!("model")));
        assert!(message.contains("this server has `owner/model` (or `model`)"), "{message}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_a_json_object_is_rejected() {
    for body in ["", "[]", r#"["a", "model"]"#, "null", "\"a\"", "texts=a"] {
        assert!(error_of(body).await.2.contains("not a JSON object"), "{body}");
    }
    for body in ["{", "{\"input\": \"a\"", "{} x", "{\"input\": \"\u{1}\"}", r#"{"input": "\ud800"}"#] {
        assert!(error_of(body).await.2.contains("not valid JSON"), "{body}");
    }
    for deep in ["{\"input\": [", "{\"of_next_year\": [", "{\"input\": [\"a\", \"b\", \"c\", \"d\", ["] {
        let body = format!("{deep}{}{}}}", "[".repeat(100_000), "]".repeat(100_001));
        assert!(error_of(&body).await.2.contains("not valid JSON"), "{deep}");
    }
    let twice = r#"{"input": "a", "model": "model", "input": "b"}"#;
    assert!(error_of(twice).await.2.contains("duplicate field `input`"));
    assert!(embeddings(b"{\"input\": \"\xff\"}", &model(), &LIMITS).is_err());
}

#[tokio::test]
async fn millions_of_elements_are_counted_without_being_kept() {
    let list = |element: &str| vec![element; 300_000].join(",");
    for element in ["\"\"", "\"a\"", "7", "[]", "{\"a\": [\"b\"]}"] {
        let parsed = Fields::parse(format!("{{\"input\": [{}]}}", list(element)).as_bytes(), 3).expect("valid");
        let Some(Value::List(List { texts, other, count })) = parsed.input else { panic!("{element}") };
        assert!(texts.len() <= 3 && texts.capacity() <= 4, "{element}");
        assert_eq!((count, other.is_none()), (300_000, element.starts_with('"')), "{element}");
    }
    let (status, _, message) = error_of(&format!("{{\"model\": \"model\", \"input\": [{}]}}", list("\"\""))).await;
    assert_eq!((status, message.as_str()), (400, "input has 300000 texts; send at most 3 per request"));
    let nested = Fields::parse(format!("{{\"input\": [[{}]]}}", list("\"\"")).as_bytes(), 3).expect("valid");
    let Some(Value::List(List { other: Some((0, inner)), .. })) = nested.input else { panic!("a list") };
    assert_eq!(*inner, Value::List(List { texts: vec![String::new()], other: None, count: 300_000 }));
}

#[tokio::test]
async fn long_words_are_not_kept() {
    let long = format!("{}é", "x".repeat(1 << 20));
    let parsed = Fields::parse(json!({"model": long, "encoding_format": long}).to_string().as_bytes(), 3);
    let parsed = parsed.expect("valid");
    for field in [parsed.model, parsed.encoding_format] {
        let Some(Value::Text(text)) = field else { panic!("a text") };
        assert!(text.len() <= 512, "{}", text.len());
    }
    let (status, ..) = error_of(&json!({"model": long, "input": "a"}).to_string()).await;
    assert_eq!(status, 404);
}
