//! Serializes replies.

use serde::Serialize;
use utoipa::ToSchema;

use crate::embed::Embedding;
use crate::encoding::{Encoded, Encoder};

const LIST: &str = "list";
/// The field is required, but bundles have no date.
const CREATED: u64 = 0;
/// The owner of a model whose name does not contain one.
const UNKNOWN_OWNER: &str = "unknown";

/// The embeddings of a request's texts, in their order.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Embeddings<'e> {
    object: &'static str,
    data: Vec<Item<'e>>,
    model: &'e str,
    usage: Usage,
}

#[derive(Serialize, ToSchema)]
struct Item<'e> {
    object: &'static str,
    index: usize,
    /// Numbers, or base64.
    #[schema(value_type = Vec<f32>)]
    embedding: Encoded<'e>,
}

#[derive(Serialize, ToSchema)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// The models that are served.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Models<'m> {
    object: &'static str,
    data: Vec<Model<'m>>,
}

/// A model.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Model<'m> {
    id: &'m str,
    object: &'static str,
    created: u64,
    owned_by: &'m str,
}

/// Numbers have as many digits as are needed to distinguish them from every other float32.
pub(super) fn embeddings(embeddings: &[Embedding], encoder: &Encoder, model: &str) -> serde_json::Result<Vec<u8>> {
    let items = embeddings.iter().enumerate().map(|(index, embedding)| {
        let embedding = encoder.encode(&embedding.values);
        Item { object: "embedding", index, embedding }
    });
    let tokens = embeddings.iter().map(|embedding| embedding.token_count).sum();
    let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
    serde_json::to_vec(&Embeddings { object: LIST, data: items.collect(), model, usage })
}

pub(super) fn models(name: &str) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Models { object: LIST, data: vec![model_object(name)] })
}

pub(super) fn model(name: &str) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&model_object(name))
}

fn model_object(name: &str) -> Model<'_> {
    let owned_by = name.rsplit_once('/').map_or(UNKNOWN_OWNER, |(owner, _)| owner);
    Model { id: name, object: "model", created: CREATED, owned_by }
}

#[cfg(test)]
mod tests;
