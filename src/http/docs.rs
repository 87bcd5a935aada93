//! The description of the HTTP port (OpenAPI 3.1), generated from the routes.

use serde::Serialize;
use utoipa::openapi::{Info, License, OpenApi, OpenApiBuilder};
use utoipa::{IntoResponses, ToSchema};

/// A text, a list of texts, the token ids of a text, or a list of them. Token ids belong to the tokenizer of the served
/// model, and include the special tokens around every text.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "it is only described")]
pub(super) enum Inputs {
    /// One text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// The tokens of one text.
    TokenIds(Vec<u32>),
    /// The tokens of several texts.
    TokenIdsOfTexts(Vec<Vec<u32>>),
}

/// The error of most APIs for invalid requests.
#[derive(IntoResponses)]
#[response(status = BAD_REQUEST, description = "The request is invalid; the error names the field.")]
#[allow(dead_code, reason = "it is only described")]
pub(super) struct InvalidRequest;

/// The error of text-embeddings-inference for invalid requests.
#[derive(IntoResponses)]
#[response(status = UNPROCESSABLE_ENTITY, description = "The request is invalid; the error names the field.")]
#[allow(dead_code, reason = "it is only described")]
pub(super) struct InvalidFields;

/// Further errors, in the form of the API's own protocol. 429 and 503 have the headers `retry-after` (seconds) and
/// `retry-after-ms`.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "it is only described")]
pub(super) enum Errors {
    /// The token is missing or wrong.
    #[response(status = UNAUTHORIZED, description = "The token is missing or wrong.")]
    Unauthorized,
    /// The body is too large.
    #[response(status = PAYLOAD_TOO_LARGE, description = "The body is too large.")]
    TooLarge,
    /// The body is not JSON, or compressed with something other than gzip.
    #[response(status = UNSUPPORTED_MEDIA_TYPE, description = "The body is not JSON, or not compressed with gzip.")]
    Unsupported,
    /// The queue or a quota is full.
    #[response(status = TOO_MANY_REQUESTS, description = "The queue or a quota is full; try again later.")]
    Overloaded,
    /// The model is loading, or the server is stopping.
    #[response(status = SERVICE_UNAVAILABLE, description = "The model is loading, or the server is stopping.")]
    Unavailable,
}

/// The description without routes.
pub(super) fn title() -> OpenApi {
    let mut info = Info::new("embedd", env!("CARGO_PKG_VERSION"));
    info.description = Some(env!("CARGO_PKG_DESCRIPTION").to_owned());
    info.license = Some(License::new(env!("CARGO_PKG_LICENSE")));
    OpenApiBuilder::new().info(info).build()
}
