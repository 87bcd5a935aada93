use axum::body::to_bytes;
use serde_json::Value;

use super::*;

async fn told(refusal: Refusal) -> (u16, Value, [Option<String>; 2]) {
    let response = refusal.into_response();
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
async fn every_error_has_its_status_and_its_words() {
    let text = |error| EmbedError::Text { index: 3, error };
    let long = text(TokenizeError::TooLong { tokens: 600, max: 384 });
    let list = TextField::List("input");
    let cases = [
        (from_embed_error(&long, list), 400, CALLER, Some("input[3]"), None),
        (from_embed_error(&long, TextField::Single("input")), 400, CALLER, Some("input"), None),
        (from_embed_error(&full(SOON), list), 429, LOAD, None, Some("rate_limit_exceeded")),
        (from_embed_error(&BatchError::Closed.into(), list), 503, SERVER, None, None),
        (from_embed_error(&text(TokenizeError::Failed(String::new())), list), 500, SERVER, None, None),
        (from_token_refusal(&tokens::Refusal::Missing), 401, CALLER, None, Some("invalid_api_key")),
        (unknown_path(), 404, CALLER, None, Some("unknown_url")),
        (wrong_method(), 405, CALLER, None, None),
        (slow(), 408, CALLER, None, None),
        (too_large(10), 413, CALLER, None, None),
        (not_json(), 415, CALLER, None, None),
        (panicked(), 500, SERVER, None, None),
        (loading(), 503, SERVER, None, None),
        (stopping(), 503, SERVER, None, None),
        (crowded(), 503, SERVER, None, None),
    ];
    for (refusal, status, kind, param, code) in cases {
        let (found, body, retry) = told(refusal).await;
        let error = &body["error"];
        assert_eq!((found, error["type"].as_str()), (status, Some(kind)), "{body}");
        assert_eq!((error["param"].as_str(), error["code"].as_str()), (param, code), "{body}");
        assert!(!error["message"].as_str().expect("a message").is_empty());
        assert_eq!(retry.iter().all(Option::is_some), [429, 503].contains(&status), "{status}");
        assert_eq!(retry.iter().any(Option::is_some), [429, 503].contains(&status), "{status}");
    }
}

#[tokio::test]
async fn callers_are_told_when_to_come_again() {
    for (time, seconds, millis) in [(0, "1", "1"), (20, "1", "20"), (1000, "1", "1000"), (1001, "2", "1001")] {
        let refusal = from_embed_error(&full(Duration::from_millis(time)), TextField::List("input"));
        let (_, _, retry) = told(refusal).await;
        assert_eq!(retry, [Some(seconds.to_owned()), Some(millis.to_owned())]);
    }
}

#[tokio::test]
async fn of_several_fields_the_first_is_named_and_all_are_told() {
    let mut violations = Violations::default();
    violations.add("dimensions", "is 0");
    violations.add("input[1]", "is null");
    let (_, body, _) = told(invalid(&violations)).await;
    assert_eq!(body["error"]["param"], "dimensions");
    assert_eq!(body["error"]["message"], "dimensions is 0; input[1] is null");
}

#[tokio::test]
async fn messages_are_bounded_whatever_they_repeat() {
    let (_, body, _) = told(failed("x".repeat(1 << 20))).await;
    assert_eq!(body["error"]["message"].as_str().map(str::len), Some(1024));
}
