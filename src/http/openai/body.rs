//! Request bodies: JSON, with limits on size and time.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, ORIGIN};
use axum::http::{HeaderMap, HeaderValue};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::error::{self, Refusal};
use crate::net::{Call, Exhausted};

/// How long a client may take to send the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for a body that is dropped.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads a body whose content type is JSON or not given.
///
/// The body is charged to the memory for the messages of `call`.
pub(super) async fn read_json(
    headers: &HeaderMap,
    body: Body,
    max: usize,
    call: Option<&Call>,
) -> Result<Vec<u8>, Refusal> {
    if let Err(refusal) = check(headers, max) {
        // A client that sends a little too much gets the reply.
        discard(headers, body, max.saturating_mul(2));
        return Err(refusal);
    }
    match timeout(BODY_TIMEOUT, collect(body, max, max, call)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(error::too_large(max)),
        Ok(Err(CollectError::Truncated(_))) => Err(error::truncated()),
        Ok(Err(CollectError::Exhausted(exhausted))) => Err(error::exhausted(exhausted)),
        Err(_) => Err(error::timed_out()),
    }
}

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error(transparent)]
    Truncated(#[from] axum::Error),
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

/// A body's type, encoding and length as given by the headers, checked before any of it is read.
fn check(headers: &HeaderMap, max: usize) -> Result<(), Refusal> {
    if let Some(encoding) = headers.get_all(CONTENT_ENCODING).iter().find(|value| !is_identity(value)) {
        return Err(error::encoded(encoding.to_str().unwrap_or("unreadable")));
    }
    if !is_json(headers) {
        return Err(error::not_json());
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > max as u64) {
        return Err(error::too_large(max));
    }
    Ok(())
}

/// Reads and drops up to `max` bytes of a rejected request's body while the reply is being sent: a client whose connection
/// is closed while it sends may never see the reply. A client that waits for `100 Continue` sends nothing.
pub(super) fn discard(headers: &HeaderMap, body: Body, max: usize) {
    if !headers.contains_key(EXPECT) {
        tokio::spawn(async move {
            let _ = timeout(DISCARD_TIMEOUT, collect(body, 0, max, None)).await;
        });
    }
}

/// The whole body, if it has at most `kept` bytes. Of a larger body, up to `more` further bytes are read and dropped.
async fn collect(body: Body, kept: usize, more: usize, call: Option<&Call>) -> Result<Option<Vec<u8>>, CollectError> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut size = 0_usize;
    while size <= kept.saturating_add(more) {
        let Some(chunk) = chunks.next().await.transpose()? else { break };
        size = size.saturating_add(chunk.len());
        if size <= kept {
            if let Some(call) = call {
                call.received(Some(call.try_receive(chunk.len())?), 1);
            }
            bytes.extend_from_slice(&chunk);
        } else {
            bytes = Vec::new();
        }
    }
    Ok((size <= kept).then_some(bytes))
}

fn is_identity(encodings: &HeaderValue) -> bool {
    let encodings = encodings.to_str().unwrap_or_default();
    encodings.split(',').all(|encoding| encoding.trim().eq_ignore_ascii_case("identity"))
}

/// Without a content type, the body is taken for JSON, as `curl --data` users expect; but web pages can leave it out to
/// avoid the browser's check of cross-origin requests.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return !headers.contains_key(ORIGIN) };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}
