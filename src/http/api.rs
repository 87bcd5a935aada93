//! What the APIs of the HTTP port share: authentication, admission, cross-origin requests, tracing, and the path from a
//! request to vectors. Each API only reads requests and writes replies.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, CONNECTION};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use crate::blocking::block_in_place_if;
use crate::caller::Caller;
use crate::cors_origins::CorsOrigins;
use crate::embed::{Embedded, Embedder};
use crate::net::{Call, Exhausted};
use crate::readiness::{Phase, Readiness};
use crate::request::{EmbedRequest, Limits, TextField, Violations};
use crate::serving::Serving;
use crate::tokens::{TokenCaller, Tokens};
use crate::trace::{Attribute, Span, Traces};
use embedd_proto::request_id::RequestId;

mod body;
mod cors;
pub(super) mod json;
mod origin;
mod permit;
pub(super) mod prompt;
pub(super) mod refusal;
pub(super) mod write;

pub(super) use body::is_json;
pub(super) use permit::ConnectionPermit;
pub(crate) use permit::ConnectionPermits;
use refusal::{ErrorForm, Refusal};

/// Larger bodies are parsed, and larger replies serialized, on a thread where they do not block other requests. Up to
/// these sizes, it takes a fraction of a millisecond.
const INLINE_BYTES: usize = 64 * 1024;
const INLINE_ELEMENTS: usize = 8 * 1024;
/// The size of a float, and of its number in JSON, such as `-0.012345678,`, which is more than that of four bytes in base64.
const REPLY_BYTES_PER_FLOAT: usize = size_of::<f32>() + 13;
/// The header of Azure's clients for their token.
const API_KEY: &str = "api-key";
/// Bytes that are read from the body of a rejected call, so that its client sees the reply.
const DISCARDED_BYTES: usize = 64 * 1024;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub serving: Serving,
    /// If set, every call needs one of them.
    pub tokens: Option<Tokens>,
    pub max_body_bytes: usize,
    /// Texts in one request. It may be larger than the model's limit.
    pub max_texts: NonZeroUsize,
    pub permits: ConnectionPermits,
    /// The web pages that may call the API.
    pub cors: Option<CorsOrigins>,
    /// The size from which replies are compressed for clients that accept it; `None`: never.
    pub gzip_replies: Option<NonZeroUsize>,
    /// While the server is stopping, replies close their connections.
    pub readiness: Readiness,
    /// Cancelled when no more calls are accepted.
    pub stop: CancellationToken,
    pub traces: Traces,
}

/// A call that has been read from the wire: who sent it, its body, and the model that answers.
pub(super) struct Received {
    pub(super) embedder: Arc<Embedder>,
    pub(super) body: Vec<u8>,
    caller: Caller,
    span: Span,
}

/// The head of a request, for handlers.
pub(super) struct Head {
    pub(super) extensions: Extensions,
    pub(super) headers: HeaderMap,
}

impl<S: Sync> FromRequestParts<S> for Head {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self { extensions: std::mem::take(&mut parts.extensions), headers: std::mem::take(&mut parts.headers) })
    }
}

impl Api {
    /// Wraps the routes of one API. `form` writes its errors.
    pub(super) fn wrap(&self, routes: Router<Self>, form: ErrorForm) -> Router {
        let routes = routes
            .method_not_allowed_fallback(|| async { refusal::wrong_method() })
            .layer(from_fn_with_state((self.clone(), form), handle))
            .with_state(self.clone());
        match &self.cors {
            Some(origins) => routes.layer(cors::layer(origins)),
            None => routes,
        }
    }

    pub(super) fn embedder(&self) -> Result<Arc<Embedder>, Refusal> {
        self.serving.model.get().ok_or_else(refusal::loading)
    }

    /// The limits of a request.
    pub(super) fn limits(&self, embedder: &Embedder) -> Limits {
        let limits = embedder.limits();
        Limits { max_texts: self.max_texts.max(limits.max_texts), ..*limits }
    }

    /// Reads a call with a JSON body.
    pub(super) async fn receive(&self, head: &Head, body: Body) -> Result<Received, Refusal> {
        self.receive_if(head, body, body::is_json).await
    }

    /// Reads a call whose body is accepted by its content type.
    pub(super) async fn receive_if(
        &self,
        Head { extensions, headers }: &Head,
        body: Body,
        is_accepted: fn(&HeaderMap) -> bool,
    ) -> Result<Received, Refusal> {
        let caller = self.serving.caller(extensions, headers).map_err(|violations| refusal::invalid(&violations))?;
        let body = body::read(headers, body, self.max_body_bytes, caller.call.as_ref(), is_accepted).await?;
        Ok(Received { embedder: self.embedder()?, body, caller, span: Span::of(extensions) })
    }

    /// The vectors of a validated request, whose texts are in the field `texts`.
    pub(super) async fn embed(
        &self,
        received: Received,
        request: EmbedRequest,
        texts: TextField,
    ) -> Result<Embedded, Refusal> {
        let Received { embedder, body, caller, span } = received;
        // The request has its own copy of the texts, and may stay in the queue for a long time.
        drop(body);
        let embedded = self.serving.embed(&embedder, request, REPLY_BYTES_PER_FLOAT, &caller, &span).await;
        embedded.map_err(|error| refusal::from_embed_error(&error, texts))
    }

    /// Whether a call is accepted. Returns its caller if the token identifies it.
    fn admit(&self, request: &Request, authorization: Option<&HeaderValue>) -> Result<Option<TokenCaller>, Refusal> {
        let call: Option<&Call> = request.extensions().get();
        if call.is_some_and(|call| !call.is_admitted()) {
            return Err(refusal::exhausted(Exhausted));
        }
        let mut caller = None;
        match &self.tokens {
            Some(tokens) => {
                let authorization = authorization.map(|value| value.to_str().unwrap_or_default());
                let admitted = tokens.admit(authorization);
                caller = Some(admitted.map_err(|refusal| refusal::from_token_refusal(&refusal))?);
            }
            // A page of another site has no token.
            None if self.is_foreign(request) => return Err(refusal::foreign_origin()),
            None => {}
        }
        if self.stop.is_cancelled() {
            return Err(refusal::stopping());
        }
        let permit: Option<&ConnectionPermit> = request.extensions().get();
        if permit.is_some_and(|permit| !self.permits.acquire(permit)) {
            return Err(refusal::too_many_connections());
        }
        // Checked again: the drain waits only for permits that were acquired before it began.
        if self.stop.is_cancelled() { Err(refusal::stopping()) } else { Ok(caller) }
    }

    fn is_foreign(&self, request: &Request) -> bool {
        let is_allowed = self.cors.as_ref().is_some_and(|origins| origins.allow(request.headers()));
        !is_allowed && origin::is_foreign(request.headers(), request.uri())
    }
}

impl Received {
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Validates the body, without blocking other requests if it is large.
    pub(super) fn read<T>(&self, read: impl FnOnce(&[u8]) -> Result<T, Refusal>) -> Result<T, Refusal> {
        block_in_place_if(self.body.len() > INLINE_BYTES, || read(&self.body))
    }
}

/// The value, unless there are violations.
pub(super) fn valid<T>(value: Option<T>, violations: &Violations) -> Result<T, Refusal> {
    value.filter(|_| violations.is_empty()).ok_or_else(|| refusal::invalid(violations))
}

/// Serializes a reply with this many numbers or texts, without blocking other requests if it is large.
pub(super) fn reply(
    elements: usize,
    serialize: impl FnOnce() -> serde_json::Result<Vec<u8>>,
) -> Result<Response, Refusal> {
    Ok(write::json(block_in_place_if(elements > INLINE_ELEMENTS, serialize)?))
}

/// Wraps every call: authentication, admission, tracing, and the reply after a panic.
async fn handle(State((api, form)): State<(Api, ErrorForm)>, mut request: Request, next: Next) -> Response {
    let version = request.version();
    let accepts_gzip = body::accepts_gzip(request.headers());
    let span = begin_span(&api.traces, &request);
    span.enter(request.extensions_mut());
    // Removed from the request: no handler needs the token, and none can leak it.
    let authorization = take_token(request.headers_mut());
    let admitted = api.admit(&request, authorization.as_ref());
    let (response, keep_alive) = match admitted {
        Ok(caller) => {
            if let Some(caller) = caller {
                caller.enter(request.extensions_mut());
            }
            let response = AssertUnwindSafe(next.run(request)).catch_unwind().await;
            let response = response.unwrap_or_else(|_| refusal::panicked().into_response());
            (response, api.readiness.phase() != Phase::Stopping)
        }
        Err(refusal) => {
            let (head, body) = request.into_parts();
            body::discard(&head.headers, body, DISCARDED_BYTES);
            (refusal.into_response(), false)
        }
    };
    let response = refusal::write_body(response, form);
    let mut response = body::compress(response, accepts_gzip, api.gzip_replies).await;
    if !keep_alive && version < Version::HTTP_2 {
        // Makes the client reconnect, to another server or later. HTTP/1.1 has no other way, and HTTP/2 has no
        // need for it.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status();
    api.serving.stats.record_http_status(status.as_u16());
    span.end([Attribute::new("http.response.status_code", i64::from(status.as_u16()))], status.is_server_error());
    response
}

/// The token of a call. Azure's clients send it in a header of its own.
fn take_token(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let authorization = headers.remove(AUTHORIZATION);
    let key = headers.remove(API_KEY);
    authorization.or_else(|| HeaderValue::try_from([b"Bearer ", key?.as_bytes()].concat()).ok())
}

/// The span of a call that sends something to the model; other calls have none. Names and attributes follow
/// OpenTelemetry's semantic conventions.
fn begin_span(traces: &Traces, request: &Request) -> Span {
    let path = request.extensions().get::<MatchedPath>().filter(|_| traces.are_enabled());
    let Some(path) = path.filter(|_| request.method() == Method::POST) else { return Span::default() };
    traces.begin(format!("POST {}", path.as_str()), request.headers(), || {
        let id = RequestId::from_headers(request.headers())
            .map(|id| Attribute::new("embedd.request_id", id.as_str().to_owned()));
        let route = [("http.request.method", "POST".to_owned()), ("http.route", path.as_str().to_owned())];
        route.map(|(key, value)| Attribute::new(key, value)).into_iter().chain(id).collect()
    })
}

#[cfg(test)]
pub(super) mod tests;
