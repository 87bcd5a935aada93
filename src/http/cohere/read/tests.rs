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

fn read(body: &Value, version: Version) -> Result<Call, (u16, Option<String>, String)> {
    let call = embed(body.to_string().as_bytes(), version, &model(), &LIMITS);
    call.map_err(|refusal| (refusal.status.as_u16(), refusal.param, refusal.message))
}

fn encodings(call: &Call) -> Option<Vec<Encoding>> {
    call.encoders.as_ref().map(|encoders| encoders.iter().map(|encoder| encoder.encoding).collect())
}

#[test]
fn texts_are_read_with_their_options() {
    let body = json!({"model": "model", "texts": ["a", "b"], "input_type": "search_query"});
    let call = read(&body, Version::V2).expect("valid");
    assert_eq!((call.texts(), call.field), (vec!["a".to_owned(), "b".to_owned()], TextField::List("texts")));
    assert_eq!(encodings(&call), Some(vec![Encoding::Float]));
    let options = call.request.options();
    assert_eq!(options.truncation, TruncationChoice::Requested(Truncation::End));
    assert_eq!(options.prompt, PromptChoice::None, "the model has no prompts");

    let body =
        json!({"texts": ["a"], "truncate": "NONE", "output_dimension": 4, "embedding_types": ["ubinary", "float"]});
    let call = read(&body, Version::V1).expect("valid");
    assert_eq!(encodings(&call), Some(vec![Encoding::Ubinary, Encoding::Float]));
    assert_eq!(call.request.dimensions(), 4);
    assert_eq!(call.request.options().truncation, TruncationChoice::Requested(Truncation::Reject));
    assert_eq!(read(&json!({"texts": ["a"]}), Version::V1).expect("valid").encoders.map(|_| ()), None);

    let inputs =
        json!({"inputs": [{"content": [{"type": "text", "text": "a"}]}, {"content": [{"type": "text", "text": "b"}]}]});
    let call = read(&inputs, Version::V2).expect("valid");
    assert_eq!((call.texts(), call.field), (vec!["a".to_owned(), "b".to_owned()], TextField::List("inputs")));
}

#[test]
fn models_need_no_prompt_for_classification() {
    let prompt = |input_type: &str| read(&json!({"texts": ["a"], "input_type": input_type}), Version::V2);
    for purpose in ["classification", "clustering", "search_document"] {
        assert_eq!(prompt(purpose).expect(purpose).request.options().prompt, PromptChoice::None);
    }
    assert_eq!(prompt("image").expect_err("unknown").1.as_deref(), Some("input_type"));
}

#[test]
fn invalid_fields_are_reported() {
    for (body, status, param) in [
        (json!({}), 400, "texts"),
        (json!({"texts": "a"}), 400, "texts"),
        (json!({"texts": [1]}), 400, "texts[0]"),
        (json!({"texts": ["a"], "model": "embed-v4.0"}), 404, "model"),
        (json!({"texts": ["a"], "truncate": "end"}), 400, "truncate"),
        (json!({"texts": ["a"], "embedding_types": ["hex"]}), 400, "embedding_types[0]"),
        (json!({"texts": ["a"], "embedding_types": "float"}), 400, "embedding_types"),
        (json!({"texts": ["a"], "images": ["data:"]}), 400, "images"),
        (json!({"inputs": [{"content": []}]}), 400, "inputs[0].content"),
        (json!({"inputs": [{"content": [{"type": "image_url"}]}]}), 400, "inputs[0].content[0].type"),
        (json!({"inputs": ["a"]}), 400, "inputs[0]"),
    ] {
        let (found, name, message) = read(&body, Version::V2).map(|_| ()).expect_err("invalid");
        assert_eq!((found, name.as_deref()), (status, Some(param)), "{body}: {message}");
    }
}
