//! Serializes replies.

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::embed::Embedding;

const LIST: &str = "list";
/// The field is required, but bundles have no date.
const CREATED: u64 = 0;
/// The owner of a model whose name does not contain one.
const UNKNOWN_OWNER: &str = "unknown";

/// How a reply represents vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// A list of numbers.
    Float,
    /// Little-endian float32 values in base64.
    Base64,
}

#[derive(Serialize)]
struct Embeddings<'e> {
    object: &'static str,
    data: Vec<Item<'e>>,
    model: &'e str,
    usage: Usage,
}

#[derive(Serialize)]
struct Item<'e> {
    object: &'static str,
    index: usize,
    embedding: Vector<'e>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector<'e> {
    Float(&'e [f32]),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

#[derive(Serialize)]
struct Models<'m> {
    object: &'static str,
    data: [Model<'m>; 1],
}

#[derive(Serialize)]
struct Model<'m> {
    id: &'m str,
    object: &'static str,
    created: u64,
    owned_by: &'m str,
}

/// A reply whose body is JSON.
pub(super) fn json(body: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// Numbers have as many digits as are needed to distinguish them from every other float32.
pub(super) fn embeddings(embeddings: &[Embedding], encoding: Encoding, model: &str) -> serde_json::Result<Vec<u8>> {
    let items = embeddings.iter().enumerate().map(|(index, embedding)| {
        let embedding = match encoding {
            Encoding::Float => Vector::Float(&embedding.values),
            Encoding::Base64 => Vector::Base64(base64(&embedding.values)),
        };
        Item { object: "embedding", index, embedding }
    });
    let tokens = embeddings.iter().map(|embedding| embedding.token_count).sum();
    let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
    serde_json::to_vec(&Embeddings { object: LIST, data: items.collect(), model, usage })
}

pub(super) fn models(name: &str) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Models { object: LIST, data: [model_object(name)] })
}

pub(super) fn model(name: &str) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&model_object(name))
}

fn model_object(name: &str) -> Model<'_> {
    let owned_by = name.rsplit_once('/').map_or(UNKNOWN_OWNER, |(owner, _)| owner);
    Model { id: name, object: "model", created: CREATED, owned_by }
}

fn base64(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests;
