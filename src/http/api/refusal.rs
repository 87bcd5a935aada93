//! The one table from errors to HTTP replies. Each protocol writes their bodies in its own form.

use std::time::Duration;

use axum::http::header::{ACCEPT_ENCODING, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::write;
use crate::embed::{DecodeFailure, EmbedError};
use crate::failure::Failure;
use crate::model_names::NoSuchModel;
use crate::net::Exhausted;
use crate::request::{TextField, Violations, error_text, quoted};
use crate::tokens;

/// `retry-after` in milliseconds, which OpenAI's clients prefer.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// The retry delay of an unavailable server.
const UNAVAILABLE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The error reply to a call. It becomes a response whose body [`write_body`] adds.
#[derive(Debug, Clone)]
pub(in crate::http) struct Refusal {
    pub(in crate::http) status: StatusCode,
    pub(in crate::http) kind: Kind,
    pub(in crate::http) message: String,
    /// The invalid field, or the first of them.
    pub(in crate::http) param: Option<String>,
    /// A name for programs.
    pub(in crate::http) code: Option<&'static str>,
    retry_after: Option<Duration>,
    /// A header that says what would be accepted.
    accepted: Option<(HeaderName, &'static str)>,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Kind {
    /// The request is wrong.
    Request,
    /// There are too many requests.
    Load,
    /// The server is not ready.
    Unavailable,
    /// The server failed.
    Server,
    /// The model or its engine cannot do that.
    Unsupported,
}

/// How a protocol writes errors: the status and the JSON of the body.
pub(in crate::http) type ErrorForm = fn(&Refusal) -> (StatusCode, Value);

impl Refusal {
    fn new(status: StatusCode, kind: Kind, message: impl Into<String>) -> Self {
        let message = error_text(&message.into());
        Self { status, kind, message, param: None, code: None, retry_after: None, accepted: None }
    }

    fn request(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, Kind::Request, message)
    }

    fn unavailable(message: impl Into<String>) -> Self {
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, Kind::Unavailable, message);
        Self { retry_after: Some(UNAVAILABLE_RETRY_DELAY), ..refusal }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        if let Some(time) = self.retry_after {
            let seconds = time.as_millis().div_ceil(1000).max(1) as u64;
            headers.insert(RETRY_AFTER, seconds.into());
            headers.insert(RETRY_AFTER_MS, (time.as_millis() as u64).max(1).into());
        }
        if let Some((name, value)) = self.accepted.clone() {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Adds the body of an error in the form of a protocol. Other responses stay as they are.
pub(in crate::http) fn write_body(mut response: Response, form: ErrorForm) -> Response {
    let Some(refusal) = response.extensions_mut().remove::<Refusal>() else { return response };
    let (status, body) = form(&refusal);
    let mut written = write::json(body.to_string().into_bytes());
    *written.status_mut() = status;
    written.headers_mut().extend(std::mem::take(response.headers_mut()));
    *written.extensions_mut() = std::mem::take(response.extensions_mut());
    written
}

/// Reports the invalid fields.
pub(in crate::http) fn invalid(violations: &Violations) -> Refusal {
    let param = violations.iter().next().map(|violation| violation.field.clone());
    Refusal { param, ..Refusal::request(StatusCode::BAD_REQUEST, violations.to_string()) }
}

pub(in crate::http) fn unreadable(error: &(impl std::fmt::Display + ?Sized)) -> Refusal {
    Refusal::request(StatusCode::BAD_REQUEST, format!("the body is not valid JSON: {error}"))
}

/// `fields` are those to send.
pub(in crate::http) fn not_an_object(fields: &str) -> Refusal {
    Refusal::request(StatusCode::BAD_REQUEST, format!("the body is not a JSON object; send one with {fields}"))
}

pub(super) fn truncated() -> Refusal {
    Refusal::request(StatusCode::BAD_REQUEST, "the request body was truncated, or its compression is damaged")
}

pub(super) fn timed_out() -> Refusal {
    Refusal::request(StatusCode::REQUEST_TIMEOUT, "timed out while reading the request body")
}

pub(super) fn too_large(max: usize) -> Refusal {
    let message = format!("the body has more than the maximum of {max} bytes; send fewer texts");
    Refusal::request(StatusCode::PAYLOAD_TOO_LARGE, message)
}

pub(super) fn not_json() -> Refusal {
    let message = "the body must be JSON; send it with `content-type: application/json`";
    Refusal::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
}

pub(super) fn encoded(encoding: &str) -> Refusal {
    let message = format!(
        "the body has the content-encoding {}, which this server does not decode; send it with gzip or without one",
        quoted(encoding)
    );
    let accepted = Some((ACCEPT_ENCODING, "gzip"));
    Refusal { accepted, ..Refusal::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, message) }
}

pub(super) fn foreign_origin() -> Refusal {
    let message = "requests of web pages are rejected (headers `origin` and `sec-fetch-site`), because this server requires no \
                   token (--token-file); --cors-origin lists pages that are allowed";
    Refusal { code: Some("foreign_origin"), ..Refusal::request(StatusCode::FORBIDDEN, message) }
}

pub(in crate::http) fn wrong_method() -> Refusal {
    let message = "method not allowed; the Allow header lists the methods of this path";
    Refusal::request(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// `known` are the paths that exist.
pub(in crate::http) fn unknown_path(known: &str) -> Refusal {
    let message = format!("unknown path; this server supports {known}");
    Refusal { code: Some("unknown_url"), ..Refusal::request(StatusCode::NOT_FOUND, message) }
}

pub(in crate::http) fn from_no_such_model(error: &NoSuchModel) -> Refusal {
    let param = Some("model".to_owned());
    let code = Some("model_not_found");
    Refusal { param, code, ..Refusal::request(StatusCode::NOT_FOUND, error.to_string()) }
}

pub(in crate::http) fn not_found(message: String) -> Refusal {
    Refusal::request(StatusCode::NOT_FOUND, message)
}

pub(super) fn from_token_refusal(refusal: &tokens::Refusal) -> Refusal {
    let code = Some("invalid_api_key");
    let accepted = Some((WWW_AUTHENTICATE, "Bearer"));
    Refusal { code, accepted, ..Refusal::request(StatusCode::UNAUTHORIZED, refusal.to_string()) }
}

pub(super) fn loading() -> Refusal {
    Refusal::unavailable("the model is being loaded; /readyz returns 200 when it is ready")
}

pub(super) fn stopping() -> Refusal {
    Refusal::unavailable("the server is stopping; this request was not processed")
}

pub(in crate::http) fn exhausted(error: Exhausted) -> Refusal {
    from_failure(Failure::exhausted(error))
}

pub(super) fn too_many_connections() -> Refusal {
    Refusal::unavailable("too many connections (--max-connections); this request was not processed")
}

pub(super) fn panicked() -> Refusal {
    from_failure(Failure::panicked())
}

/// For what the model or its engine cannot do.
pub(in crate::http) fn unsupported(reason: &'static str) -> Refusal {
    Refusal { code: Some("unsupported"), ..Refusal::new(StatusCode::NOT_IMPLEMENTED, Kind::Unsupported, reason) }
}

fn failed(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, Kind::Server, message)
}

impl From<serde_json::Error> for Refusal {
    /// For replies, whose serialization is not known to fail.
    fn from(error: serde_json::Error) -> Self {
        failed(format!("cannot serialize the reply: {error}"))
    }
}

/// For a request whose texts are in the field `texts`.
pub(in crate::http) fn from_embed_error(error: &EmbedError, texts: TextField) -> Refusal {
    from_failure(Failure::from_embed_error(error, texts))
}

pub(in crate::http) fn from_decode_failure(error: &DecodeFailure) -> Refusal {
    match error {
        DecodeFailure::Ids(error) => failed(error.to_string()),
        DecodeFailure::Busy(full) => {
            from_failure(Failure::Overloaded { message: error_text(full), retry_after: full.retry_after })
        }
    }
}

fn from_failure(failure: Failure) -> Refusal {
    match failure {
        Failure::Invalid(violations) => invalid(&violations),
        Failure::Overloaded { message, retry_after } => Refusal {
            code: Some("rate_limit_exceeded"),
            retry_after: Some(retry_after),
            ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, Kind::Load, message)
        },
        Failure::Unavailable(message) => Refusal::unavailable(message),
        Failure::Internal(message) => failed(message),
    }
}

#[cfg(test)]
mod tests;
