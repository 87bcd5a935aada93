//! Bodies of requests and replies: JSON, with limits on size and time, compressed with gzip or not at all.

use std::io::{self, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::time::Duration;

use axum::body::Body;
use axum::body::{HttpBody as _, to_bytes};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, ORIGIN, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::INLINE_BYTES;
use super::refusal::{self, Refusal};
use crate::blocking::block_in_place_if;
use crate::net::{Call, Exhausted};

/// How long a client may take to send the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for a body that is dropped.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that are decompressed at a time.
const PART_BYTES: usize = 32 * 1024;
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
}

/// Reads a body that `is_accepted` by its content type, of at most `max` bytes, compressed and not.
///
/// It is charged to the memory for the messages of `call`.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    max: usize,
    call: Option<&Call>,
    is_accepted: fn(&HeaderMap) -> bool,
) -> Result<Vec<u8>, Refusal> {
    let encoding = match check(headers, max, is_accepted) {
        Ok(encoding) => encoding,
        Err(refusal) => {
            // A client that sends a little too much gets the reply.
            discard(headers, body, max.saturating_mul(2));
            return Err(refusal);
        }
    };
    let collected = match timeout(BODY_TIMEOUT, collect(body, max, max, call)).await {
        Ok(Ok(Some(bytes))) if encoding == Encoding::Gzip => {
            block_in_place_if(bytes.len() > INLINE_BYTES, || decompress(&bytes, max, call))
        }
        Ok(collected) => collected,
        Err(_) => return Err(refusal::timed_out()),
    };
    match collected {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(refusal::too_large(max)),
        Err(CollectError::Truncated(_) | CollectError::Damaged(_)) => Err(refusal::truncated()),
        Err(CollectError::Exhausted(exhausted)) => Err(refusal::exhausted(exhausted)),
    }
}

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error(transparent)]
    Truncated(#[from] axum::Error),
    #[error(transparent)]
    Damaged(#[from] io::Error),
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

/// A body's type, encoding and length as given by the headers, checked before any of it is read.
fn check(headers: &HeaderMap, max: usize, is_accepted: fn(&HeaderMap) -> bool) -> Result<Encoding, Refusal> {
    let encoding = encoding(headers)?;
    if !is_accepted(headers) {
        return Err(refusal::not_json());
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > max as u64) {
        return Err(refusal::too_large(max));
    }
    Ok(encoding)
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter().filter(|value| !is_identity(value));
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(Encoding::Identity),
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"gzip") => Ok(Encoding::Gzip),
        (Some(value), _) => Err(refusal::encoded(value.to_str().unwrap_or("unreadable"))),
    }
}

/// `None` if there are more than `max` bytes.
fn decompress(bytes: &[u8], max: usize, call: Option<&Call>) -> Result<Option<Vec<u8>>, CollectError> {
    let mut decoder = MultiGzDecoder::new(bytes);
    let mut decompressed = Vec::new();
    loop {
        let read = decoder.by_ref().take(PART_BYTES as u64).read_to_end(&mut decompressed)?;
        if read == 0 {
            return Ok(Some(decompressed));
        }
        if decompressed.len() > max {
            return Ok(None);
        }
        if let Some(call) = call {
            call.received(Some(call.try_receive(read)?), 1);
        }
    }
}

/// Compresses a reply of at least `min` bytes for a client that accepts gzip.
pub(super) async fn compress(response: Response, accepts_gzip: bool, min: Option<NonZeroUsize>) -> Response {
    let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
    let Some(size) = size.filter(|size| min.is_some_and(|min| *size >= min.get())) else { return response };
    let (mut head, body) = response.into_parts();
    head.headers.append(VARY, ACCEPT_ENCODING.into());
    // Replies are in memory, so this neither waits nor fails.
    let bytes = to_bytes(body, size).await.unwrap_or_default();
    if !accepts_gzip {
        return Response::from_parts(head, bytes.into());
    }
    let compressed = block_in_place_if(size > INLINE_BYTES, || {
        let mut encoder = GzEncoder::new(Vec::with_capacity(size / 2), Compression::fast());
        encoder.write_all(&bytes).and_then(|()| encoder.finish())
    });
    match compressed {
        Ok(compressed) => {
            head.headers.remove(CONTENT_LENGTH);
            head.headers.insert(CONTENT_ENCODING, GZIP);
            Response::from_parts(head, compressed.into())
        }
        Err(_) => Response::from_parts(head, bytes.into()),
    }
}

/// Whether a client accepts gzip (RFC 9110, section 12.5.3).
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut weights = values.flat_map(|value| value.split(',')).filter_map(|encoding| {
        let (name, weight) = encoding.split_once(';').unwrap_or((encoding, ""));
        let is_gzip = name.trim().eq_ignore_ascii_case("gzip") || name.trim() == "*";
        is_gzip.then(|| weight.trim().strip_prefix("q=").map_or(Some(1.0), |weight| weight.parse::<f32>().ok()))
    });
    weights.any(|weight| weight.is_some_and(|weight| weight > 0.0))
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
pub(in crate::http) fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return !headers.contains_key(ORIGIN) };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}
