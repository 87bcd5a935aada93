//! The part of OpenAI's API that serves embedding models: `POST /v1/embeddings` and `GET /v1/models`.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{any, get};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::refusal::{self, Kind, Refusal};
use super::api::{self, Api, Head, write as reply};

pub(super) mod read;
mod write;

use read::EmbeddingsRequest;

/// The values of the field `type`.
const INVALID_REQUEST: &str = "invalid_request_error";
const RATE_LIMIT: &str = "rate_limit_error";
const SERVER: &str = "server_error";

/// The routes; clients need not know of those without documentation.
pub(super) fn routes() -> OpenApiRouter<Api> {
    let unknown =
        any(|| async { refusal::unknown_path("POST /v1/embeddings, GET /v1/models and GET /v1/models/MODEL") });
    OpenApiRouter::new()
        .routes(routes!(embeddings))
        .routes(routes!(models))
        .routes(routes!(model))
        // The name of a model may have slashes.
        .route("/v1/models/{model}/{*rest}", get(model_of_owner))
        .route("/v1/{*path}", unknown)
}

/// An error in OpenAI's form.
pub(super) fn error(refusal: &Refusal) -> (StatusCode, Value) {
    let Refusal { status, kind, message, param, code, .. } = refusal;
    let kind = match kind {
        Kind::Request | Kind::Unsupported => INVALID_REQUEST,
        Kind::Load => RATE_LIMIT,
        Kind::Unavailable | Kind::Server => SERVER,
    };
    (*status, json!({"error": {"message": message, "type": kind, "param": param, "code": code}}))
}

/// Embeds texts.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "OpenAI",
    request_body = EmbeddingsRequest<'static>,
    responses((status = OK, description = "The embeddings, in the order of the texts.", body = write::Embeddings<'static>), super::docs::InvalidRequest, super::docs::Errors),
)]
async fn embeddings(State(api): State<Api>, head: Head, body: Body) -> Result<Response, Refusal> {
    let received = api.receive(&head, body).await?;
    let embedder = received.embedder.clone();
    let limits = api.limits(&embedder);
    let call = received.read(|body| read::embeddings(body, embedder.model(), &limits))?;
    let floats = call.request.inputs().len() * call.request.dimensions();
    let embedded = api.embed(received, call.request, call.texts).await?;
    api::reply(floats, || write::embeddings(&embedded.embeddings, &call.encoder, embedder.model().names.main()))
}

/// Lists the served model.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "OpenAI",
    responses((status = OK, description = "The served model.", body = write::Models<'static>), super::docs::InvalidRequest, super::docs::Errors),
)]
async fn models(State(api): State<Api>) -> Result<Response, Refusal> {
    Ok(reply::json(write::models(api.embedder()?.model().names.main())?))
}

/// Describes the served model by one of its names.
#[utoipa::path(
    get,
    path = "/v1/models/{model}",
    tag = "OpenAI",
    params(("model" = String, Path, description = "A name of the served model; slashes may be encoded or not.")),
    responses((status = OK, description = "The served model.", body = write::Model<'static>), super::docs::InvalidRequest, super::docs::Errors),
)]
async fn model(State(api): State<Api>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let embedder = api.embedder()?;
    embedder.model().names.check(&name).map_err(|error| refusal::from_no_such_model(&error))?;
    Ok(reply::json(write::model(embedder.model().names.main())?))
}

async fn model_of_owner(api: State<Api>, Path((owner, name)): Path<(String, String)>) -> Result<Response, Refusal> {
    model(api, Path(format!("{owner}/{name}"))).await
}
