//! Replies.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::read::Encoding;
use crate::embed::Embedding;

const LIST: &str = "list";
/// Bundles have no date, and the field may not be absent.
const CREATED: u64 = 0;
/// Who owns a model whose name does not tell.
const NOBODY: &str = "unknown";

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

/// Numbers have as many digits as tell them from all other float32.
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

/// The list of the one model.
pub(super) fn models(name: &str) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Models { object: LIST, data: [described(name)] })
}

pub(super) fn model(name: &str) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&described(name))
}

fn described(name: &str) -> Model<'_> {
    let owned_by = name.rsplit_once('/').map_or(NOBODY, |(owner, _)| owner);
    Model { id: name, object: "model", created: CREATED, owned_by }
}

fn base64(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests;
