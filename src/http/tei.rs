//! The REST API of text-embeddings-inference.

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::refusal::{self, Kind, Refusal};
use super::api::{self, Api, Head, Received};
use crate::request::TextField;

pub(super) mod read;
mod write;

const NO_SPARSE_VECTORS: &str = "the model does not produce sparse vectors; use /embed for dense ones";
const NO_TOKEN_VECTORS: &str = "the engine does not return token embeddings; use /embed for one embedding per text";
const NO_LABELS: &str = "the model has no labels; it embeds texts (/embed)";
const NO_RANKS: &str = "the model does not rank texts; /similarity compares their embeddings";

/// Memory of the tokens of a text for each of its bytes: with punctuation, a token for every one to three bytes, each of
/// which is an object with five fields.
const TOKENS_BYTES_PER_BYTE: usize = 64;

/// Memory of the text of a token, more or less, and of its copy in the reply.
const TEXT_BYTES_PER_TOKEN: usize = 32;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(embed))
        .routes(routes!(similarity))
        .routes(routes!(tokenize))
        .routes(routes!(decode))
        .routes(routes!(info))
        .routes(routes!(embed_root))
        .routes(routes!(embed_all))
        .routes(routes!(embed_sparse))
        .routes(routes!(predict))
        .routes(routes!(rerank))
        // The path of SageMaker's endpoints.
        .route("/invocations", post(embed_root))
}

/// An error in the form of text-embeddings-inference, with its statuses.
pub(super) fn error(refusal: &Refusal) -> (StatusCode, Value) {
    let Refusal { status, kind, message, .. } = refusal;
    let (status, kind) = match (kind, *status) {
        (Kind::Request, StatusCode::BAD_REQUEST) => (StatusCode::UNPROCESSABLE_ENTITY, "Validation"),
        (Kind::Request, status) => (status, "Validation"),
        (Kind::Load, status) => (status, "Overloaded"),
        (Kind::Unavailable, status) => (status, "Unhealthy"),
        (Kind::Server | Kind::Unsupported, status) => (status, "Backend"),
    };
    (status, json!({"error": message, "error_type": kind}))
}

/// Embeds texts.
#[utoipa::path(
    post,
    path = "/embed",
    tag = "text-embeddings-inference",
    request_body = read::EmbedRequest<'static>,
    responses((status = OK, description = "The embeddings, in the order of the texts.", body = Vec<Vec<f32>>), super::docs::InvalidFields, super::docs::Errors),
)]
async fn embed(State(api): State<Api>, head: Head, body: Body) -> Result<Response, Refusal> {
    let received = api.receive(&head, body).await?;
    answer_embed(&api, received).await
}

async fn answer_embed(api: &Api, received: Received) -> Result<Response, Refusal> {
    let embedder = received.embedder.clone();
    let limits = api.limits(&embedder);
    let call = received.read(|body| read::embed(body, embedder.model(), &limits))?;
    let chars = read::chars(call.request.inputs());
    let floats = call.request.inputs().len() * call.request.dimensions();
    let embedded = api.embed(received, call.request, call.texts).await?;
    let response = api::reply(floats, || write::embeddings(&embedded))?;
    Ok(write::with_headers(response, &embedded, chars))
}

/// Embeds texts, like `/embed`, or compares sentences, like `/similarity`, depending on `inputs`.
#[utoipa::path(
    post,
    path = "/",
    tag = "text-embeddings-inference",
    request_body = read::EmbedRequest<'static>,
    responses((status = OK, description = "The embeddings, in the order of the texts.", body = Vec<Vec<f32>>), super::docs::InvalidFields, super::docs::Errors),
)]
async fn embed_root(State(api): State<Api>, head: Head, body: Body) -> Result<Response, Refusal> {
    let received = api.receive(&head, body).await?;
    if received.read(read::is_similarity)? {
        return answer_similarity(&api, received).await;
    }
    answer_embed(&api, received).await
}

/// Compares a sentence with others: the cosines of their embeddings.
#[utoipa::path(
    post,
    path = "/similarity",
    tag = "text-embeddings-inference",
    request_body = read::SimilarityRequest<'static>,
    responses((status = OK, description = "The cosines, in the order of the sentences.", body = Vec<f32>), super::docs::InvalidFields, super::docs::Errors),
)]
async fn similarity(State(api): State<Api>, head: Head, body: Body) -> Result<Response, Refusal> {
    let received = api.receive(&head, body).await?;
    answer_similarity(&api, received).await
}

async fn answer_similarity(api: &Api, received: Received) -> Result<Response, Refusal> {
    let embedder = received.embedder.clone();
    let limits = api.limits(&embedder);
    let request = received.read(|body| read::similarity(body, embedder.model(), &limits))?;
    let chars = read::chars(request.inputs());
    let embedded = api.embed(received, request, TextField::List(read::SENTENCES)).await?;
    let response = api::reply(0, || write::similarities(&embedded.embeddings))?;
    Ok(write::with_headers(response, &embedded, chars))
}

/// Tokenizes texts.
#[utoipa::path(
    post,
    path = "/tokenize",
    tag = "text-embeddings-inference",
    request_body = read::TokenizeRequest<'static>,
    responses((status = OK, description = "The tokens of each text.", body = Vec<Vec<write::SimpleToken>>), super::docs::InvalidFields, super::docs::Errors),
)]
async fn tokenize(State(api): State<Api>, head: Head, body: Body) -> Result<Response, Refusal> {
    let received = api.receive(&head, body).await?;
    let limits = *received.embedder.limits();
    let call = received.read(|body| read::tokenize(body, &limits))?;
    let caller = received.caller();
    let bytes: usize = call.texts.as_slice().iter().map(String::len).sum();
    let reservation = caller.reserve_reply(bytes * TOKENS_BYTES_PER_BYTE).await.map_err(refusal::exhausted)?;
    let tokens = received.embedder.tokens(&call.texts, call.with_special_tokens, caller).await;
    let tokens = tokens.map_err(|error| refusal::from_embed_error(&error, call.field))?;
    caller.replies(reservation);
    api::reply(bytes, || write::tokens(tokens))
}

/// Turns token ids back into texts.
#[utoipa::path(
    post,
    path = "/decode",
    tag = "text-embeddings-inference",
    request_body = read::DecodeRequest<'static>,
    responses((status = OK, description = "The texts.", body = Vec<String>), super::docs::InvalidFields, super::docs::Errors),
)]
async fn decode(State(api): State<Api>, head: Head, body: Body) -> Result<Response, Refusal> {
    let received = api.receive(&head, body).await?;
    let limits = *received.embedder.limits();
    let call = received.read(|body| read::decode(body, &limits))?;
    let ids: usize = call.ids.iter().map(Vec::len).sum();
    let caller = received.caller();
    let reservation = caller.reserve_reply(ids * TEXT_BYTES_PER_TOKEN).await.map_err(refusal::exhausted)?;
    let mut texts = Vec::with_capacity(call.ids.len());
    for ids in &call.ids {
        let text = received.embedder.decode(ids, !call.skip_special_tokens, caller).await;
        texts.push(text.map_err(|error| refusal::from_decode_failure(&error))?);
    }
    caller.replies(reservation);
    api::reply(ids, || serde_json::to_vec(&texts))
}

/// Describes the model and the server.
#[utoipa::path(
    get,
    path = "/info",
    tag = "text-embeddings-inference",
    responses((status = OK, description = "The model and the server.", body = write::Info), super::docs::InvalidFields, super::docs::Errors),
)]
async fn info(State(api): State<Api>) -> Result<Response, Refusal> {
    let embedder = api.embedder()?;
    let max_texts = api.limits(&embedder).max_texts;
    api::reply(0, || serde_json::to_vec(&write::info(&embedder, max_texts)))
}

/// Not available: the engine returns one embedding per text.
#[utoipa::path(post, path = "/embed_all", tag = "text-embeddings-inference", responses((status = NOT_IMPLEMENTED, description = "Not supported.")))]
async fn embed_all() -> Refusal {
    refusal::unsupported(NO_TOKEN_VECTORS)
}

/// Not available: the model produces dense vectors.
#[utoipa::path(post, path = "/embed_sparse", tag = "text-embeddings-inference", responses((status = NOT_IMPLEMENTED, description = "Not supported.")))]
async fn embed_sparse() -> Refusal {
    refusal::unsupported(NO_SPARSE_VECTORS)
}

/// Not available: the model has no labels.
#[utoipa::path(post, path = "/predict", tag = "text-embeddings-inference", responses((status = NOT_IMPLEMENTED, description = "Not supported.")))]
async fn predict() -> Refusal {
    refusal::unsupported(NO_LABELS)
}

/// Not available: the model does not rank.
#[utoipa::path(post, path = "/rerank", tag = "text-embeddings-inference", responses((status = NOT_IMPLEMENTED, description = "Not supported.")))]
async fn rerank() -> Refusal {
    refusal::unsupported(NO_RANKS)
}
