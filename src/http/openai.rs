//! The part of OpenAI's API that serves embedding models: `POST /v1/embeddings` and `GET /v1/models`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::permit::{ConnectionPermit, ConnectionPermits};
use crate::embed::{Embedder, block_in_place_if};
use crate::net::{Call, Exhausted};
use crate::readiness::{Phase, Readiness};
use crate::serving::Serving;
use crate::tokens::{TokenCaller, Tokens};
use crate::trace::{Attribute, Span, Traces};
use embedd_proto::request_id::RequestId;

mod body;
mod error;
mod json;
mod origin;
mod read;
mod write;

use error::Refusal;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use read::read_openai_body;

const EMBEDDINGS: &str = "/v1/embeddings";
/// Larger bodies are parsed, and larger replies serialized, on a thread where they do not block other requests. Up to
/// these sizes, it takes a fraction of a millisecond.
const INLINE_BYTES: usize = 64 * 1024;
const INLINE_FLOATS: usize = 8 * 1024;
/// The size of a float, and of its number in JSON, such as `-0.012345678,`, which is more than that of four bytes in base64.
const REPLY_BYTES_PER_FLOAT: usize = size_of::<f32>() + 13;
/// Bytes that are read from the body of a rejected call, so that its client sees the reply.
const DISCARDED_BYTES: usize = 64 * 1024;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct OpenAi {
    pub serving: Serving,
    /// If set, every call needs one of them.
    pub tokens: Option<Tokens>,
    pub max_body_bytes: usize,
    pub permits: ConnectionPermits,
    /// While the server is stopping, replies close their connections.
    pub readiness: Readiness,
    /// Cancelled when no more calls are accepted.
    pub stop: CancellationToken,
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
            .layer(from_fn_with_state(self.clone(), handle))
            .with_state(self)
    }

    fn embedder(&self) -> Result<Arc<Embedder>, Refusal> {
        self.serving.model.get().ok_or_else(error::loading)
    }

    /// Whether a call is accepted. Returns its caller if the token identifies it.
    fn admit(&self, request: &Request, authorization: Option<&HeaderValue>) -> Result<Option<TokenCaller>, Refusal> {
        let call: Option<&Call> = request.extensions().get();
        if call.is_some_and(|call| !call.is_admitted()) {
            return Err(error::exhausted(Exhausted));
        }
        let mut caller = None;
        match &self.tokens {
            Some(tokens) => {
                let authorization = authorization.map(|value| value.to_str().unwrap_or_default());
                let admitted = tokens.admit(authorization);
                caller = Some(admitted.map_err(|refusal| error::from_token_refusal(&refusal))?);
            }
            // A page of another site has no token.
            None if origin::is_foreign(request.headers(), request.uri()) => return Err(error::foreign_origin()),
            None => {}
        }
        if self.stop.is_cancelled() {
            return Err(error::stopping());
        }
        let permit: Option<&ConnectionPermit> = request.extensions().get();
        if permit.is_some_and(|permit| !self.permits.acquire(permit)) {
            return Err(error::too_many_connections());
        }
        // Checked again: the drain waits only for permits that were acquired before it began.
        if self.stop.is_cancelled() { Err(error::stopping()) } else { Ok(caller) }
    }
}

/// Wraps every call: authentication, admission, tracing, and the reply after a panic.
async fn handle(State(api): State<OpenAi>, mut request: Request, next: Next) -> Response {
    let version = request.version();
    let span = begin_span(&api.traces, &request);
    span.enter(request.extensions_mut());
    // Removed from the request: no handler needs the token, and none can leak it.
    let authorization = request.headers_mut().remove(AUTHORIZATION);
    let admitted = api.admit(&request, authorization.as_ref());
    let (mut response, keep_alive) = match admitted {
        Ok(caller) => {
            if let Some(caller) = caller {
                caller.enter(request.extensions_mut());
            }
            let response = AssertUnwindSafe(next.run(request)).catch_unwind().await;
            let response = response.unwrap_or_else(|_| error::panicked().into_response());
            (response, api.readiness.phase() != Phase::Stopping)
        }
        Err(refusal) => {
            let (head, body) = request.into_parts();
            body::discard(&head.headers, body, DISCARDED_BYTES);
            (refusal.into_response(), false)
        }
    };
    if !keep_alive && version < Version::HTTP_2 {
        // Makes the client reconnect, to another server or later. HTTP/1.1 has no other way, and HTTP/2 has no
        // need for it.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status();
    span.end([Attribute::new("http.response.status_code", i64::from(status.as_u16()))], status.is_server_error());
    response
}

/// The span of a call for embeddings; other calls have none. Names and attributes follow OpenTelemetry's semantic
/// conventions.
fn begin_span(traces: &Traces, request: &Request) -> Span {
    if request.method() != Method::POST || request.uri().path() != EMBEDDINGS {
        return Span::default();
    }
    traces.begin("POST /v1/embeddings", request.headers(), || {
        let id = RequestId::from_headers(request.headers())
            .map(|id| Attribute::new("embedd.request_id", id.as_str().to_owned()));
        let route = [("http.request.method", "POST"), ("http.route", EMBEDDINGS)];
        route.map(|(key, value)| Attribute::new(key, value)).into_iter().chain(id).collect()
    })
}

async fn embeddings(
    State(api): State<OpenAi>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let caller = api.serving.caller(&extensions, &headers).map_err(|violations| error::invalid(&violations))?;
    let body = body::read_json(&headers, body, api.max_body_bytes, caller.call.as_ref()).await?;
    let embedder = api.embedder()?;
    let parse = || read::embeddings(&body, embedder.model(), embedder.limits());
    let call = block_in_place_if(body.len() > INLINE_BYTES, parse)?;
    // The request has its own copy of the texts, and may stay in the queue for a long time.
    drop(body);
    let span = Span::of(&extensions);
    let embedded = api.serving.embed(&embedder, &call.request, REPLY_BYTES_PER_FLOAT, &caller, &span).await;
    let embedded = embedded.map_err(|error| error::from_embed_error(&error, call.texts))?;
    let floats = embedded.embeddings.len() * call.request.dimensions();
    let serialize = || write::embeddings(&embedded.embeddings, call.encoding, embedder.model().names.main());
    Ok(write::json(block_in_place_if(floats > INLINE_FLOATS, serialize)?))
}

async fn models(State(api): State<OpenAi>) -> Result<Response, Refusal> {
    Ok(write::json(write::models(api.embedder()?.model().names.main())?))
}

async fn model(State(api): State<OpenAi>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let embedder = api.embedder()?;
    embedder.model().names.check(&name).map_err(|error| error::from_no_such_model(&error))?;
    Ok(write::json(write::model(embedder.model().names.main())?))
}

#[cfg(test)]
mod tests;
