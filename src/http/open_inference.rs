//! The Open Inference Protocol (v2) over HTTP, with the binary tensors of Triton's clients.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::refusal::{self, Refusal};
use super::api::{self, Api, Head};
use crate::embed::Embedder;
use crate::open_inference;
use crate::readiness::Phase;

pub(super) mod read;
mod write;

/// The header with the size of the JSON part of a body, which binary tensors follow.
const JSON_LENGTH: &str = "inference-header-content-length";
const TAG: &str = "Open Inference Protocol";

/// The routes. Those of versions are not documented: there is only one.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(server))
        .routes(routes!(live))
        .routes(routes!(ready))
        .routes(routes!(metadata))
        .routes(routes!(model_ready))
        .routes(routes!(infer))
        .route("/v2/models/{model}/versions/{version}", get(metadata_of_version))
        .route("/v2/models/{model}/versions/{version}/ready", get(version_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer_version))
}

/// An error in the protocol's form.
pub(super) fn error(refusal: &Refusal) -> (StatusCode, Value) {
    (refusal.status, json!({"error": refusal.message}))
}

/// The name and version of the server.
#[utoipa::path(
    get,
    path = "/v2",
    tag = TAG,
    responses((status = OK, description = "The server.", body = write::ServerMetadata), super::docs::InvalidRequest, super::docs::Errors),
)]
async fn server() -> Result<Response, Refusal> {
    api::reply(0, || serde_json::to_vec(&write::server()))
}

/// Whether the server is running.
#[utoipa::path(get, path = "/v2/health/live", tag = TAG, responses((status = OK, description = "The server is running.")))]
async fn live() -> StatusCode {
    StatusCode::OK
}

/// Whether the server answers requests.
#[utoipa::path(
    get,
    path = "/v2/health/ready",
    tag = TAG,
    responses((status = OK, description = "Ready."), (status = SERVICE_UNAVAILABLE, description = "Not ready.")),
)]
async fn ready(State(api): State<Api>) -> StatusCode {
    if api.readiness.phase() == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Describes the model: its inputs and outputs.
#[utoipa::path(
    get,
    path = "/v2/models/{model}",
    tag = TAG,
    params(("model" = String, Path, description = "A name of the served model, with slashes encoded.")),
    responses((status = OK, description = "The model.", body = write::ModelMetadata), super::docs::InvalidRequest, super::docs::Errors),
)]
async fn metadata(api: State<Api>, Path(model): Path<String>) -> Result<Response, Refusal> {
    metadata_of_version(api, Path((model, String::new()))).await
}

async fn metadata_of_version(
    State(api): State<Api>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let embedder = api.embedder()?;
    check_model(&model, &version, &embedder)?;
    api::reply(0, || serde_json::to_vec(&write::metadata(&embedder)))
}

/// Whether the model answers requests.
#[utoipa::path(
    get,
    path = "/v2/models/{model}/ready",
    tag = TAG,
    params(("model" = String, Path, description = "A name of the served model, with slashes encoded.")),
    responses(
        (status = OK, description = "Ready."),
        (status = NOT_FOUND, description = "Another model is served."),
        (status = SERVICE_UNAVAILABLE, description = "Not ready."),
    ),
)]
async fn model_ready(api: State<Api>, Path(model): Path<String>) -> Result<Response, Refusal> {
    version_ready(api, Path((model, String::new()))).await
}

async fn version_ready(
    State(api): State<Api>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    check_model(&model, &version, &*api.embedder()?)?;
    Ok(ready(State(api)).await.into_response())
}

/// Embeds the texts of the tensor `text`.
#[utoipa::path(
    post,
    path = "/v2/models/{model}/infer",
    tag = TAG,
    params(("model" = String, Path, description = "A name of the served model, with slashes encoded.")),
    request_body = read::InferRequest<'static>,
    responses((status = OK, description = "The outputs.", body = write::InferResponse), super::docs::InvalidRequest, super::docs::Errors),
)]
async fn infer(api: State<Api>, Path(model): Path<String>, head: Head, body: Body) -> Result<Response, Refusal> {
    infer_version(api, Path((model, String::new())), head, body).await
}

async fn infer_version(
    State(api): State<Api>,
    Path((model, version)): Path<(String, String)>,
    head: Head,
    body: Body,
) -> Result<Response, Refusal> {
    let json_length = read::json_length(&head.headers)?;
    let received = api.receive_if(&head, body, is_accepted).await?;
    let embedder = received.embedder.clone();
    check_model(&model, &version, &embedder)?;
    let limits = api.limits(&embedder);
    let call = received.read(|body| read::infer(body, json_length, embedder.model(), &limits))?;
    let floats = call.request.inputs().len() * call.request.dimensions();
    let embedded = api.embed(received, call.request, open_inference::TEXT).await?;
    let reply = open_inference::inferred(&embedded, &call.form, model, call.id);
    let (json, binary) = write::infer(reply, &call.binary);
    write::response(floats, &json, binary)
}

/// Triton's clients send binary tensors as `application/octet-stream`, or without a type.
fn is_accepted(headers: &HeaderMap) -> bool {
    headers.contains_key(JSON_LENGTH) || api::is_json(headers)
}

fn check_model(name: &str, version: &str, embedder: &Embedder) -> Result<(), Refusal> {
    open_inference::check_model(name, version, embedder).map_err(refusal::not_found)
}
