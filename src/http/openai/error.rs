//! The table from errors to HTTP replies, with the error objects of OpenAI's API.

use std::time::Duration;

use axum::http::header::{ACCEPT_ENCODING, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::write;
use crate::embed::EmbedError;
use crate::failure::Failure;
use crate::model_names::NoSuchModel;
use crate::net::Exhausted;
use crate::request::{TextField, Violations, error_text, quoted};
use crate::tokens;

/// `retry-after` in milliseconds, which OpenAI's clients prefer.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// The retry delay of an unavailable server.
const UNAVAILABLE_RETRY_DELAY: Duration = Duration::from_secs(1);
/// The values of the field `type`.
const INVALID_REQUEST: &str = "invalid_request_error";
const RATE_LIMIT: &str = "rate_limit_error";
const SERVER: &str = "server_error";

/// The error reply to a call.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
    /// The invalid field, or the first of them.
    param: Option<String>,
    code: Option<&'static str>,
    retry_after: Option<Duration>,
    /// A header that says what would be accepted.
    accepted: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = error_text(&message.into());
        Self { status, kind, message, param: None, code: None, retry_after: None, accepted: None }
    }

    fn unavailable(message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(UNAVAILABLE_RETRY_DELAY),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, message)
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, kind, message, param, code, retry_after, accepted } = self;
        let error = json!({"error": {"message": message, "type": kind, "param": param, "code": code}});
        let mut response = write::json(error.to_string().into_bytes());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if let Some(time) = retry_after {
            let seconds = time.as_millis().div_ceil(1000).max(1) as u64;
            headers.insert(RETRY_AFTER, seconds.into());
            headers.insert(RETRY_AFTER_MS, (time.as_millis() as u64).max(1).into());
        }
        if let Some((name, value)) = accepted {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// Reports the invalid fields.
pub(super) fn invalid(violations: &Violations) -> Refusal {
    let param = violations.iter().next().map(|violation| violation.field.clone());
    Refusal { param, ..Refusal::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, violations.to_string()) }
}

pub(super) fn unreadable(error: &serde_json::Error) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, format!("the body is not valid JSON: {error}"))
}

pub(super) fn not_an_object() -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        INVALID_REQUEST,
        "the body is not a JSON object; send one with `input` and `model`",
    )
}

pub(super) fn truncated() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, "the request body was truncated")
}

pub(super) fn timed_out() -> Refusal {
    Refusal::new(StatusCode::REQUEST_TIMEOUT, INVALID_REQUEST, "timed out while reading the request body")
}

pub(super) fn too_large(max: usize) -> Refusal {
    let message = format!("the body has more than the maximum of {max} bytes; send fewer texts");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, message)
}

pub(super) fn not_json() -> Refusal {
    let message = "the body must be JSON; send it with `content-type: application/json`";
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID_REQUEST, message)
}

pub(super) fn encoded(encoding: &str) -> Refusal {
    let message = format!(
        "the body has the content-encoding {}, which this server does not decode; send it without one",
        quoted(encoding)
    );
    let accepted = Some((ACCEPT_ENCODING, "identity"));
    Refusal { accepted, ..Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID_REQUEST, message) }
}

pub(super) fn foreign_origin() -> Refusal {
    let message = "requests of web pages are rejected (headers `origin` and `sec-fetch-site`), because this server requires no \
                   token (--token-file)";
    Refusal { code: Some("foreign_origin"), ..Refusal::new(StatusCode::FORBIDDEN, INVALID_REQUEST, message) }
}

pub(super) fn wrong_method() -> Refusal {
    let message = "method not allowed; the Allow header lists the methods of this path";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, INVALID_REQUEST, message)
}

pub(super) fn unknown_path() -> Refusal {
    let message = "unknown path; this server supports POST /v1/embeddings, GET /v1/models and GET /v1/models/MODEL";
    Refusal { code: Some("unknown_url"), ..Refusal::new(StatusCode::NOT_FOUND, INVALID_REQUEST, message) }
}

pub(super) fn from_no_such_model(error: &NoSuchModel) -> Refusal {
    let param = Some("model".to_owned());
    let code = Some("model_not_found");
    Refusal { param, code, ..Refusal::new(StatusCode::NOT_FOUND, INVALID_REQUEST, error.to_string()) }
}

pub(super) fn from_token_refusal(refusal: &tokens::Refusal) -> Refusal {
    let code = Some("invalid_api_key");
    let accepted = Some((WWW_AUTHENTICATE, "Bearer"));
    Refusal { code, accepted, ..Refusal::new(StatusCode::UNAUTHORIZED, INVALID_REQUEST, refusal.to_string()) }
}

pub(super) fn loading() -> Refusal {
    Refusal::unavailable("the model is being loaded; /readyz returns 200 when it is ready")
}

pub(super) fn stopping() -> Refusal {
    Refusal::unavailable("the server is stopping; this request was not processed")
}

pub(super) fn exhausted(error: Exhausted) -> Refusal {
    from_failure(Failure::exhausted(error))
}

pub(super) fn too_many_connections() -> Refusal {
    Refusal::unavailable("too many connections (--max-connections); this request was not processed")
}

pub(super) fn panicked() -> Refusal {
    from_failure(Failure::panicked())
}

fn failed(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, message)
}

impl From<serde_json::Error> for Refusal {
    /// For replies, whose serialization is not known to fail.
    fn from(error: serde_json::Error) -> Self {
        failed(format!("cannot serialize the reply: {error}"))
    }
}

/// For a request whose texts are in the field `texts`.
pub(super) fn from_embed_error(error: &EmbedError, texts: TextField) -> Refusal {
    from_failure(Failure::from_embed_error(error, texts))
}

fn from_failure(failure: Failure) -> Refusal {
    match failure {
        Failure::Invalid(violations) => invalid(&violations),
        Failure::Overloaded { message, retry_after } => Refusal {
            code: Some("rate_limit_exceeded"),
            retry_after: Some(retry_after),
            ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, RATE_LIMIT, message)
        },
        Failure::Unavailable(message) => Refusal::unavailable(message),
        Failure::Internal(message) => failed(message),
    }
}

#[cfg(test)]
mod tests;
