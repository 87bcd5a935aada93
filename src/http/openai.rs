//! OpenAI's API, as far as it is of use to callers of an embedding model: `POST /v1/embeddings`, `GET /v1/models`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::seat::{Seat, Seats};
use crate::embed::{Embedder, block_in_place_if};
use crate::readiness::{Phase, Readiness};
use crate::serving::Serving;
use crate::tokens::Tokens;
use crate::trace::{Attribute, Span, Traces};
use embedd_proto::request_id::RequestId;

mod body;
mod error;
mod read;
mod write;

use error::Refusal;

const EMBEDDINGS: &str = "/v1/embeddings";
/// Bodies of more bytes are read, and replies of more numbers written, where they block no other request: a fraction of a
/// millisecond.
const INLINE_BYTES: usize = 64 * 1024;
const INLINE_FLOATS: usize = 8 * 1024;

/// What answers callers who speak OpenAI's API; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct OpenAi {
    /// The one way from a request to vectors.
    pub serving: Serving,
    /// Calls need one of them.
    pub tokens: Option<Tokens>,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// For connections that carry calls.
    pub seats: Seats,
    /// Whether callers should go elsewhere.
    pub readiness: Readiness,
    /// No more calls are taken.
    pub stop: CancellationToken,
    /// Where calls for embeddings are traced.
    pub traces: Traces,
}

impl OpenAi {
    pub(super) fn routes(self) -> Router {
        Router::new()
            .route(EMBEDDINGS, post(embeddings))
            .route("/v1/models", get(models))
            .route("/v1/models/{*name}", get(model))
            .method_not_allowed_fallback(|| async { error::wrong_method() })
            .route("/v1/{*path}", any(|| async { error::unknown_path() }))
            .layer(from_fn_with_state(self.clone(), answer))
            .with_state(self)
    }

    fn embedder(&self) -> Result<Arc<Embedder>, Refusal> {
        self.serving.model.get().ok_or_else(error::loading)
    }

    /// Whether a call may come in.
    fn admit(&self, authorization: Option<&HeaderValue>, seat: Option<&Seat>) -> Result<(), Refusal> {
        if let Some(tokens) = &self.tokens {
            let authorization = authorization.map(|value| value.to_str().unwrap_or_default());
            tokens.admit(authorization).map_err(|refusal| error::from_token_refusal(&refusal))?;
        }
        if self.stop.is_cancelled() {
            return Err(error::stopping());
        }
        if seat.is_some_and(|seat| !self.seats.take(seat)) {
            return Err(error::crowded());
        }
        // Who has taken a seat before the end is waited for; who has not may not begin.
        if self.stop.is_cancelled() { Err(error::stopping()) } else { Ok(()) }
    }
}

/// How every call is answered: by the door, by what it came for, or, where that panics, as one that failed alone.
async fn answer(State(api): State<OpenAi>, mut request: Request, next: Next) -> Response {
    let span = begin_span(&api.traces, &request);
    span.enter(request.extensions_mut());
    // Out of the request: nothing behind this needs the token, nor can tell it.
    let authorization = request.headers_mut().remove(AUTHORIZATION);
    let admitted = api.admit(authorization.as_ref(), request.extensions().get());
    let (mut response, stays) = match admitted {
        Ok(()) => {
            let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
            (answered.unwrap_or_else(|_| error::panicked().into_response()), api.readiness.phase() != Phase::Stopping)
        }
        Err(refusal) => {
            body::discard(request.into_body(), api.max_body_bytes).await;
            (refusal.into_response(), false)
        }
    };
    if !stays {
        // The client is to connect anew: elsewhere, or later. HTTP/1.1 has no other way to say so.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status();
    span.end([Attribute::new("http.response.status_code", i64::from(status.as_u16()))], status.is_server_error());
    response
}

/// The span of a call for embeddings; others have none. Names and attributes are those of OpenTelemetry's conventions.
fn begin_span(traces: &Traces, request: &Request) -> Span {
    if request.method() != Method::POST || request.uri().path() != EMBEDDINGS {
        return Span::default();
    }
    traces.begin("POST /v1/embeddings", request.headers(), || {
        let id =
            RequestId::told(request.headers()).map(|id| Attribute::new("embedd.request_id", id.as_str().to_owned()));
        let known = [("http.request.method", "POST"), ("http.route", EMBEDDINGS)];
        known.map(|(key, value)| Attribute::new(key, value)).into_iter().chain(id).collect()
    })
}

async fn embeddings(
    State(api): State<OpenAi>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let body = body::read_json(&headers, body, api.max_body_bytes).await?;
    let embedder = api.embedder()?;
    let reading = || read::embeddings(&body, embedder.model(), embedder.limits());
    let asked = block_in_place_if(body.len() > INLINE_BYTES, reading)?;
    // The texts are the request's own now, and may wait for long.
    drop(body);
    let embedded = api.serving.embed(&embedder, &asked.request, &Span::of(&extensions)).await;
    let embedded = embedded.map_err(|error| error::from_embed_error(&error, asked.texts))?;
    let floats = embedded.embeddings.len() * asked.request.dimensions();
    let writing = || write::embeddings(&embedded.embeddings, asked.encoding, &embedder.model().name);
    Ok(json(block_in_place_if(floats > INLINE_FLOATS, writing)?))
}

async fn models(State(api): State<OpenAi>) -> Result<Response, Refusal> {
    Ok(json(write::models(&api.embedder()?.model().name)?))
}

async fn model(State(api): State<OpenAi>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let embedder = api.embedder()?;
    embedder.model().check_name(&name).map_err(|error| error::from_no_such_model(&error))?;
    Ok(json(write::model(&embedder.model().name)?))
}

/// A body that is JSON already.
fn json(body: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

#[cfg(test)]
mod tests;
