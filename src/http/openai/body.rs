//! Bodies of requests: JSON, bounded in bytes and time.

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::error::{self, Refusal};

/// A client has so long to send the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// The bytes of a body that is said to be JSON, or not said to be anything.
pub(super) async fn read_json(headers: &HeaderMap, body: Body, most: usize) -> Result<Vec<u8>, Refusal> {
    if !is_json(headers) {
        discard(body, most).await;
        return Err(error::not_json());
    }
    match timeout(BODY_TIMEOUT, collect(body, most, most)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(error::too_large(most)),
        Ok(Err(_)) => Err(error::cut_short()),
        Err(_) => Err(error::slow()),
    }
}

/// Reads a body that nobody wants: a client that is cut off while it sends may never see why.
pub(super) async fn discard(body: Body, most: usize) {
    let _ = timeout(BODY_TIMEOUT, collect(body, 0, most)).await;
}

/// The whole body where it has at most `kept` bytes. Of a larger one, up to `more` bytes are read, too.
async fn collect(body: Body, kept: usize, more: usize) -> Result<Option<Vec<u8>>, axum::Error> {
    let (mut chunks, mut bytes, mut size) = (body.into_data_stream(), Vec::new(), 0_usize);
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
