//! Request bodies: JSON, with limits on size and time.

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::error::{self, Refusal};

/// How long a client may take to send the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads a body whose content type is JSON or not given.
pub(super) async fn read_json(headers: &HeaderMap, body: Body, max: usize) -> Result<Vec<u8>, Refusal> {
    if !is_json(headers) {
        discard(body, max).await;
        return Err(error::not_json());
    }
    match timeout(BODY_TIMEOUT, collect(body, max, max)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(error::too_large(max)),
        Ok(Err(_)) => Err(error::truncated()),
        Err(_) => Err(error::timed_out()),
    }
}

/// Reads and drops the body of a rejected request: a client whose connection is closed while it sends may never see the
/// reply.
pub(super) async fn discard(body: Body, max: usize) {
    let _ = timeout(BODY_TIMEOUT, collect(body, 0, max)).await;
}

/// The whole body, if it has at most `kept` bytes. Of a larger body, up to `more` further bytes are read and dropped.
async fn collect(body: Body, kept: usize, more: usize) -> Result<Option<Vec<u8>>, axum::Error> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut size = 0_usize;
    while size <= kept.saturating_add(more) {
        let Some(chunk) = chunks.next().await.transpose()? else { break };
        size = size.saturating_add(chunk.len());
        if size <= kept {
            bytes.extend_from_slice(&chunk);
        } else {
            bytes = Vec::new();
        }
    }
    Ok((size <= kept).then_some(bytes))
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return true };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}
