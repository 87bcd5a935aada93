//! The one table from errors to HTTP, in the words of OpenAI's API.

use std::time::Duration;

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::batch::BatchError;
use crate::embed::{EmbedError, NoSuchModel};
use crate::request::{TextField, Violations, error_text};
use crate::tokens;
use embedd_model::tokenize::TokenizeError;

/// As `retry-after`, in milliseconds: OpenAI's clients look for it first.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// When another instance may be asked, or this one again.
const SOON: Duration = Duration::from_secs(1);
/// Whose fault it is, as the field `type` says.
const CALLER: &str = "invalid_request_error";
const LOAD: &str = "rate_limit_error";
const SERVER: &str = "server_error";

/// Why a call got nothing.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
    /// The field that is wrong; the first where there are several.
    param: Option<String>,
    code: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: error_text(&message.into()), param: None, code: None, retry_after: None }
    }

    fn unavailable(message: impl Into<String>) -> Self {
        Self { retry_after: Some(SOON), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, message) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, kind, message, param, code, retry_after } = self;
        let error = json!({"error": {"message": message, "type": kind, "param": param, "code": code}});
        let mut response = super::json(error.to_string().into_bytes());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if let Some(time) = retry_after {
            let seconds = time.as_millis().div_ceil(1000).max(1) as u64;
            headers.insert(RETRY_AFTER, seconds.into());
            headers.insert(RETRY_AFTER_MS, (time.as_millis() as u64).max(1).into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The fields that are wrong.
pub(super) fn invalid(violations: &Violations) -> Refusal {
    let param = violations.iter().next().map(|violation| violation.field.clone());
    Refusal { param, ..Refusal::new(StatusCode::BAD_REQUEST, CALLER, violations.to_string()) }
}

pub(super) fn unreadable(error: &serde_json::Error) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, CALLER, format!("the body is no JSON that can be read: {error}"))
}

pub(super) fn no_object() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, CALLER, "the body is no JSON object; send one with `input` and `model`")
}

pub(super) fn cut_short() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, CALLER, "the body ended before its end")
}

pub(super) fn slow() -> Refusal {
    Refusal::new(StatusCode::REQUEST_TIMEOUT, CALLER, "the body took too long to come")
}

pub(super) fn too_large(most: usize) -> Refusal {
    let message = format!("the body has more than {most} bytes, which is the most that is taken; send fewer texts");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, CALLER, message)
}

pub(super) fn not_json() -> Refusal {
    let message = "the body must be JSON; send it with `content-type: application/json`";
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, CALLER, message)
}

pub(super) fn wrong_method() -> Refusal {
    let message = "this path takes other methods; the header Allow lists them";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, CALLER, message)
}

pub(super) fn unknown_path() -> Refusal {
    let message = "of OpenAI's API, this server has POST /v1/embeddings, GET /v1/models and GET /v1/models/MODEL";
    Refusal { code: Some("unknown_url"), ..Refusal::new(StatusCode::NOT_FOUND, CALLER, message) }
}

pub(super) fn from_no_such_model(error: &NoSuchModel) -> Refusal {
    let (param, code) = (Some("model".to_owned()), Some("model_not_found"));
    Refusal { param, code, ..Refusal::new(StatusCode::NOT_FOUND, CALLER, error.to_string()) }
}

pub(super) fn from_token_refusal(refusal: &tokens::Refusal) -> Refusal {
    let code = Some("invalid_api_key");
    Refusal { code, ..Refusal::new(StatusCode::UNAUTHORIZED, CALLER, refusal.to_string()) }
}

pub(super) fn loading() -> Refusal {
    Refusal::unavailable("the model is being loaded; /readyz answers 200 when it is ready")
}

pub(super) fn stopping() -> Refusal {
    Refusal::unavailable("the server is stopping; nothing of this request was done")
}

pub(super) fn crowded() -> Refusal {
    Refusal::unavailable("too many connections carry calls (--max-connections); nothing of this request was done")
}

/// There is a bug. What it is stands in the log, not in the reply.
pub(super) fn panicked() -> Refusal {
    failed("the server failed on this request (a panic, which its log describes); other requests are fine")
}

fn failed(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, message)
}

impl From<serde_json::Error> for Refusal {
    /// Of a reply: nothing that is known makes one fail.
    fn from(error: serde_json::Error) -> Self {
        failed(format!("the reply cannot be written: {error}"))
    }
}

/// Of a request that names its texts so.
pub(super) fn from_embed_error(error: &EmbedError, texts: TextField) -> Refusal {
    match error {
        EmbedError::Text { index, error: reason @ TokenizeError::TooLong { .. } } => {
            let mut violations = Violations::of(texts);
            violations.add(texts.one(*index), reason.to_string());
            invalid(&violations)
        }
        EmbedError::Batch(BatchError::QueueFull { retry_after, .. }) => Refusal {
            code: Some("rate_limit_exceeded"),
            retry_after: Some(*retry_after),
            ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, LOAD, error.to_string())
        },
        EmbedError::Batch(BatchError::Closed) => Refusal::unavailable(error.to_string()),
        EmbedError::Text { error: TokenizeError::Failed(_), .. } | EmbedError::Batch(BatchError::Inference(_)) => {
            failed(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
