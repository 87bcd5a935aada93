use axum::body::to_bytes;

use super::*;

const INVALID_REQUEST: &str = "invalid_request_error";
const RATE_LIMIT: &str = "rate_limit_error";
const SERVER: &str = "server_error";
use crate::batch::BatchError;
use embedd_model::tokenize::TokenizeError;

async fn reply(refusal: Refusal) -> (u16, Value, [Option<String>; 2]) {
    let response = write_body(refusal.into_response(), crate::http::openai::error);
    let status = response.status().as_u16();
    let header = |name| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
    let retry = [header("retry-after"), header("retry-after-ms")];
    let body = to_bytes(response.into_body(), 1 << 16).await.expect("a body");
    (status, serde_json::from_slice(&body).expect("JSON"), retry)
}

fn full(retry_after: Duration) -> EmbedError {
    BatchError::QueueFull { waiting: 9, refused: 2, retry_after }.into()
}

#[tokio::test]
async fn every_error_has_its_status_type_and_code() {
    let text = |error| EmbedError::Text { index: 3, error };
    let long = text(TokenizeError::TooLong { tokens: 600, max: 384 });
    let list = TextField::List("input");
    let cases = [
        (from_embed_error(&long, list), 400, INVALID_REQUEST, Some("input[3]"), None),
        (from_embed_error(&long, TextField::Single("input")), 400, INVALID_REQUEST, Some("input"), None),
        (from_embed_error(&full(UNAVAILABLE_RETRY_DELAY), list), 429, RATE_LIMIT, None, Some("rate_limit_exceeded")),
        (from_embed_error(&BatchError::Closed.into(), list), 503, SERVER, None, None),
        (from_embed_error(&text(TokenizeError::Failed(String::new())), list), 500, SERVER, None, None),
        (from_token_refusal(&tokens::Refusal::Missing), 401, INVALID_REQUEST, None, Some("invalid_api_key")),
        (unknown_path("/a"), 404, INVALID_REQUEST, None, Some("unknown_url")),
        (wrong_method(), 405, INVALID_REQUEST, None, None),
        (timed_out(), 408, INVALID_REQUEST, None, None),
        (too_large(10), 413, INVALID_REQUEST, None, None),
        (not_json(), 415, INVALID_REQUEST, None, None),
        (encoded("br"), 415, INVALID_REQUEST, None, None),
        (unsupported("never"), 501, INVALID_REQUEST, None, Some("unsupported")),
        (foreign_origin(), 403, INVALID_REQUEST, None, Some("foreign_origin")),
        (panicked(), 500, SERVER, None, None),
        (loading(), 503, SERVER, None, None),
        (stopping(), 503, SERVER, None, None),
        (too_many_connections(), 503, SERVER, None, None),
    ];
    for (refusal, status, kind, param, code) in cases {
        let (found, body, retry) = reply(refusal).await;
        let error = &body["error"];
        assert_eq!((found, error["type"].as_str()), (status, Some(kind)), "{body}");
        assert_eq!((error["param"].as_str(), error["code"].as_str()), (param, code), "{body}");
        assert!(!error["message"].as_str().expect("a message").is_empty());
        assert_eq!(retry.iter().all(Option::is_some), [429, 503].contains(&status), "{status}");
        assert_eq!(retry.iter().any(Option::is_some), [429, 503].contains(&status), "{status}");
    }
}

#[tokio::test]
async fn the_retry_delay_is_given_in_seconds_and_in_milliseconds() {
    for (time, seconds, millis) in [(0, "1", "1"), (20, "1", "20"), (1000, "1", "1000"), (1001, "2", "1001")] {
        let refusal = from_embed_error(&full(Duration::from_millis(time)), TextField::List("input"));
        let (_, _, retry) = reply(refusal).await;
        assert_eq!(retry, [Some(seconds.to_owned()), Some(millis.to_owned())]);
    }
}

#[tokio::test]
async fn the_message_reports_all_invalid_fields_and_param_the_first() {
    let mut violations = Violations::default();
    violations.add("dimensions", "is 0");
    violations.add("input[1]", "is null");
    let (_, body, _) = reply(invalid(&violations)).await;
    assert_eq!(body["error"]["param"], "dimensions");
    assert_eq!(body["error"]["message"], "dimensions is 0; input[1] is null");
}

#[tokio::test]
async fn messages_are_bounded_whatever_they_repeat() {
    let (_, body, _) = reply(failed("x".repeat(1 << 20))).await;
    assert_eq!(body["error"]["message"].as_str().map(str::len), Some(1024));
}
