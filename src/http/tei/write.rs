//! Serializes replies.

use std::num::NonZeroUsize;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use serde::Serialize;
use tokio::runtime::Handle;
use utoipa::ToSchema;

use crate::embed::{Embedded, Embedder, Embedding};
use embedd_model::accuracy::cosine;
use embedd_model::tokenize::{Token, Truncation};

/// A token of a text.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct SimpleToken {
    id: u32,
    /// Its part of the text; the name of a special token.
    text: String,
    /// Whether it was added to the text.
    special: bool,
    /// Where its part of the text begins, in bytes.
    start: Option<usize>,
    /// Where its part of the text ends, in bytes.
    stop: Option<usize>,
}

/// The model and the limits of the server.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Info {
    model_id: String,
    /// SHA-256 of the weights from which the model was converted.
    model_sha: String,
    /// The type of the weights.
    model_dtype: &'static str,
    served_model_name: String,
    model_type: ModelType,
    max_concurrent_requests: usize,
    /// Tokens per text.
    max_input_length: usize,
    max_batch_tokens: usize,
    max_batch_requests: usize,
    /// Texts per request.
    max_client_batch_size: usize,
    /// Whether texts that are too long are truncated by default.
    auto_truncate: bool,
    tokenization_workers: usize,
    version: &'static str,
    sha: Option<&'static str>,
    docker_label: Option<&'static str>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ModelType {
    Embedding(EmbeddingModel),
}

#[derive(Debug, Serialize, ToSchema)]
struct EmbeddingModel {
    pooling: String,
}

/// Numbers have as many digits as are needed to distinguish them from every other float32.
pub(super) fn embeddings(embedded: &Embedded) -> serde_json::Result<Vec<u8>> {
    let vectors: Vec<&[f32]> = embedded.embeddings.iter().map(|embedding| embedding.values.as_slice()).collect();
    serde_json::to_vec(&vectors)
}

/// The cosines of the first embedding with the others.
pub(super) fn similarities(embeddings: &[Embedding]) -> serde_json::Result<Vec<u8>> {
    let cosines: Vec<f32> = match embeddings {
        [source, others @ ..] => others.iter().map(|other| cosine(&source.values, &other.values) as f32).collect(),
        [] => Vec::new(),
    };
    serde_json::to_vec(&cosines)
}

/// Adds the headers of a reply to a request whose texts have `chars` characters. Durations are in whole milliseconds.
pub(super) fn with_headers(mut response: Response, embedded: &Embedded, chars: usize) -> Response {
    let tokens: usize = embedded.embeddings.iter().map(|embedding| embedding.token_count).sum();
    let timings = &embedded.timings;
    let milliseconds = |time: Duration| time.as_millis() as u64;
    let numbers = [
        ("x-compute-characters", chars as u64),
        ("x-compute-tokens", tokens as u64),
        ("x-compute-time", milliseconds(timings.total)),
        ("x-total-time", milliseconds(timings.total)),
        ("x-tokenization-time", milliseconds(timings.tokenize)),
        ("x-queue-time", milliseconds(timings.queue)),
        ("x-inference-time", milliseconds(timings.infer)),
    ];
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-compute-type"), HeaderValue::from_static("cpu"));
    headers.extend(numbers.map(|(name, number)| (HeaderName::from_static(name), HeaderValue::from(number))));
    response
}

pub(super) fn tokens(tokens: Vec<Vec<Token>>) -> serde_json::Result<Vec<u8>> {
    let all: Vec<Vec<SimpleToken>> =
        tokens.into_iter().map(|tokens| tokens.into_iter().map(simple).collect()).collect();
    serde_json::to_vec(&all)
}

fn simple(token: Token) -> SimpleToken {
    let bytes = token.bytes.as_ref();
    SimpleToken {
        id: token.id,
        special: bytes.is_none(),
        start: bytes.map(|bytes| bytes.start),
        stop: bytes.map(|bytes| bytes.end),
        text: token.text,
    }
}

pub(super) fn info(embedder: &Embedder, max_texts: NonZeroUsize) -> Info {
    let model = embedder.model();
    let batch = embedder.batch_limits();
    Info {
        model_id: model.names.main().to_owned(),
        model_sha: model.revision.clone(),
        model_dtype: model.dtype(),
        served_model_name: model.names.main().to_owned(),
        model_type: ModelType::Embedding(EmbeddingModel { pooling: model.pooling.to_string() }),
        max_concurrent_requests: embedder.queue_limits().ahead.get(),
        max_input_length: embedder.max_tokens(),
        max_batch_tokens: batch.tokens.get(),
        max_batch_requests: batch.texts.get(),
        max_client_batch_size: max_texts.get(),
        auto_truncate: model.default_truncation != Truncation::Reject,
        tokenization_workers: Handle::current().metrics().num_workers(),
        version: env!("CARGO_PKG_VERSION"),
        sha: None,
        docker_label: None,
    }
}
