use serde_json::{Value, json};

use super::*;
use crate::encoding::Encoding;

fn embedding(values: &[f32], token_count: usize) -> Embedding {
    Embedding { values: values.to_vec(), token_count, truncated: false, cached: false }
}

fn written(encoding: Encoding, values: &[f32]) -> Value {
    let body =
        embeddings(&[embedding(values, 3), embedding(&[], 4)], &Encoder::plain(encoding), "a/b").expect("written");
    serde_json::from_slice(&body).expect("JSON")
}

/// Numbers with few or many digits: the ends of the range, neighbors, and values without an exact decimal fraction.
const NUMBERS: [f32; 8] = [0.0, -0.0, 0.1, -0.430_162_43, f32::MIN_POSITIVE, 1.0e-45, f32::MAX, 1.000_000_1];

#[test]
fn numbers_parse_back_to_the_same_bits() {
    let body = embeddings(&[embedding(&NUMBERS, 1)], &Encoder::plain(Encoding::Float), "a/b").expect("written");
    let text = String::from_utf8(body).expect("text");
    let (_, after) = text.split_once("\"embedding\":[").expect("the vector");
    let (numbers, _) = after.split_once(']').expect("its end");
    let bits = numbers.split(',').map(|number| number.parse::<f32>().expect("a number").to_bits());
    assert_eq!(bits.collect::<Vec<_>>(), NUMBERS.map(f32::to_bits));
}

#[test]
fn base64_encodes_little_endian_bytes() {
    let reply = written(Encoding::Base64, &[1.0, -2.5]);
    assert_eq!(reply["data"][0]["embedding"], "AACAPwAAIMA=");
    assert_eq!(reply["data"][1]["embedding"], "");
}

#[test]
fn replies_have_the_fields_of_openais_api() {
    let item = |index, embedding: Value| json!({"object": "embedding", "index": index, "embedding": embedding});
    let expected = json!({
        "object": "list",
        "data": [item(0, json!([1.0, -2.5])), item(1, json!([]))],
        "model": "a/b",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    });
    assert_eq!(written(Encoding::Float, &[1.0, -2.5]), expected);

    let described = json!({"id": "a/b", "object": "model", "created": 0, "owned_by": "a"});
    let parse = |body: Vec<u8>| serde_json::from_slice::<Value>(&body).expect("JSON");
    assert_eq!(parse(model("a/b").expect("written")), described);
    assert_eq!(parse(models("a/b").expect("written")), json!({"object": "list", "data": [described]}));
    assert_eq!(parse(model("b").expect("written"))["owned_by"], "unknown");
}
