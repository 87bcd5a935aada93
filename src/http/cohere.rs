//! The part of Cohere's API that embeds texts.

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::refusal::Refusal;
use super::api::{self, Api, Head};
use embedd_proto::request_id::RequestId;

pub(super) mod read;
mod write;

use read::Version;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(embed)).routes(routes!(embed_v1))
}

/// An error in Cohere's form.
pub(super) fn error(refusal: &Refusal) -> (StatusCode, Value) {
    (refusal.status, json!({"message": refusal.message}))
}

/// Embeds texts.
#[utoipa::path(
    post,
    path = "/v2/embed",
    tag = "Cohere",
    request_body = read::EmbedRequest<'static>,
    responses((status = OK, description = "The embeddings by encoding, in the order of the texts.", body = write::EmbedByType<'static>), super::docs::InvalidRequest, super::docs::Errors),
)]
async fn embed(State(api): State<Api>, head: Head, body: Body) -> Result<Response, Refusal> {
    answer(&api, head, body, Version::V2).await
}

/// Embeds texts, as the first version of the API did: without `embedding_types`, `embeddings` is a list of vectors.
#[utoipa::path(
    post,
    path = "/v1/embed",
    tag = "Cohere",
    request_body = read::EmbedRequest<'static>,
    responses((status = OK, description = "The embeddings by encoding, in the order of the texts.", body = write::EmbedByType<'static>), super::docs::InvalidRequest, super::docs::Errors),
)]
async fn embed_v1(State(api): State<Api>, head: Head, body: Body) -> Result<Response, Refusal> {
    answer(&api, head, body, Version::V1).await
}

async fn answer(api: &Api, head: Head, body: Body, version: Version) -> Result<Response, Refusal> {
    let id = RequestId::from_headers(&head.headers);
    let received = api.receive(&head, body).await?;
    let embedder = received.embedder.clone();
    let limits = api.limits(&embedder);
    let call = received.read(|body| read::embed(body, version, embedder.model(), &limits))?;
    let texts = call.texts();
    let floats = call.request.inputs().len() * call.request.dimensions();
    let embedded = api.embed(received, call.request, call.field).await?;
    let id = id.as_ref().map_or("", RequestId::as_str);
    api::reply(floats, || write::embedded(&embedded, id, texts, call.encoders.as_deref(), version))
}
