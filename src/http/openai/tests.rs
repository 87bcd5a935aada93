use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::task::TaskTracker;

use super::*;
use crate::caller::Priority;
use crate::http::tests::{PATIENCE, Port, open_with, read};
use crate::model_slot::ModelSlot;
use crate::net::MaxConnections;
use crate::reload::NamedFile;
use crate::stats::Stats;

const MAX_CONNECTIONS: MaxConnections = MaxConnections { count: 8, setting: None };

fn openai(readiness: &Readiness) -> OpenAi {
    OpenAi {
        serving: Serving {
            model: ModelSlot::default(),
            requests: TaskTracker::new(),
            stats: Stats::default(),
            default_priority: Priority::Interactive,
        },
        tokens: None,
        max_body_bytes: 1000,
        permits: ConnectionPermits::new(NonZeroUsize::new(2).expect("not zero"), TaskTracker::new()),
        readiness: readiness.clone(),
        stop: CancellationToken::new(),
        traces: Traces::default(),
    }
}

fn tokens(content: &str) -> Tokens {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens");
    std::fs::write(&path, content).expect("write");
    Tokens::open(NamedFile { path, flag: "--token-file" }).expect("a token")
}

async fn open() -> Port {
    open_with(MAX_CONNECTIONS, |readiness| Some(openai(readiness))).await
}

const CLOSE: &str = "Connection: close\r\n";

fn is(answer: &str, status: u16, parts: &[&str]) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} ")) && parts.iter().all(|part| answer.contains(part))
}

#[tokio::test]
async fn every_error_has_openais_format() {
    let port = open().await;
    let large = "x".repeat(1001);
    for (line, headers, body, status, part) in [
        ("POST /v1/embeddings", "", "{}", 503, "the model is being loaded"),
        ("POST /v1/embeddings", "Content-Type: application/json; charset=utf-8\r\n", "{}", 503, "retry-after-ms: "),
        ("GET /v1/models", "", "", 503, "retry-after: 1\r\n"),
        ("GET /v1/models/a%2Fb", "", "", 503, "server_error"),
        ("POST /v1/embeddings", "", &large, 413, "maximum of 1000 bytes"),
        ("POST /v1/embeddings", "Content-Type: text/plain\r\n", "{}", 415, "content-type: application/json"),
        ("POST /v1/embeddings", "Content-Encoding: gzip\r\n", "\x1f\x08", 415, "\r\naccept-encoding: identity\r\n"),
        ("POST /v1/embeddings", "Content-Encoding: identity, br\r\n", "{}", 415, "`identity, br`"),
        ("POST /v1/embeddings", "Content-Encoding: Identity\r\n", "{}", 503, "the model is being loaded"),
        ("POST /v1/embeddings", "Origin: https://evil.example\r\n", "{}", 403, "foreign_origin"),
        ("POST /v1/embeddings", "Sec-Fetch-Site: cross-site\r\n", "{}", 403, "--token-file"),
        ("GET /v1/models", "Origin: null\r\n", "", 403, "foreign_origin"),
        ("OPTIONS /v1/embeddings", "Origin: https://evil.example\r\n", "", 403, "foreign_origin"),
        ("GET /v1/embeddings", "", "", 405, "\r\nallow: POST\r\n"),
        ("DELETE /v1/models/a/b", "", "", 405, "\r\nallow: GET,HEAD\r\n"),
        ("POST /v1/chat/completions", "", "{}", 404, "POST /v1/embeddings"),
    ] {
        let answer = port.send(line, &format!("{CLOSE}{headers}"), body).await;
        assert!(is(&answer, status, &[part, "{\"error\":{", "\"type\":\"", "application/json"]), "{line}: {answer}");
    }
    assert!(is(&port.send("GET /v1", CLOSE, "").await, 404, &["not found"]));
    let metrics = port.send("GET /metrics", CLOSE, "").await;
    for route in ["/v1/embeddings", "/v1/models", "/v1/models/{*name}", "/v1/{*path}"] {
        assert!(metrics.contains(&format!("http_route=\"{route}\"")), "{route}: {metrics}");
    }
}

#[tokio::test]
async fn calls_need_a_token_if_tokens_are_configured_and_probes_do_not() {
    let port =
        open_with(MAX_CONNECTIONS, |readiness| Some(OpenAi { tokens: Some(tokens("secret\n")), ..openai(readiness) }))
            .await;
    for line in ["POST /v1/embeddings", "GET /v1/models", "GET /v1/other"] {
        for header in ["", "Authorization: Bearer wrong\r\n", "Authorization: secret\r\n"] {
            let answer = port.send(line, header, "{}").await;
            let parts = ["invalid_api_key", "\r\nwww-authenticate: Bearer\r\n", "\r\nconnection: close\r\n"];
            assert!(is(&answer, 401, &parts) && !answer.contains("secret"), "{answer}");
        }
    }
    for line in ["POST /v1/embeddings", "GET /v1/models"] {
        let answer = port.send(line, &format!("{CLOSE}Authorization: bearer secret\r\n"), "{}").await;
        assert!(is(&answer, 503, &["being loaded"]), "{answer}");
    }
    assert!(is(&port.send("GET /healthz", CLOSE, "").await, 200, &["ok"]));
}

/// Sends a call on an open connection, which stays open if the server allows it, and reads the reply.
async fn call(stream: &mut tokio::net::TcpStream) -> String {
    stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = vec![0; 4096];
    let size = stream.read(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer[..size]).into_owned()
}

#[tokio::test]
async fn callers_cannot_use_up_all_connections() {
    let port = open().await;
    let mut first = port.connect().await;
    let mut second = port.connect().await;
    let mut third = port.connect().await;
    for _ in 0..2 {
        for stream in [&mut first, &mut second] {
            assert!(is(&call(stream).await, 503, &["being loaded"]), "it has a permit");
        }
    }
    let answer = call(&mut third).await;
    assert!(is(&answer, 503, &["--max-connections", "\r\nconnection: close\r\n"]), "{answer}");
    assert_eq!(read(&mut third).await, "", "the connection is closed");
    assert!(is(&port.send("GET /healthz", CLOSE, "").await, 200, &["ok"]), "probes are accepted");
    drop(first);
    let until = tokio::time::Instant::now() + PATIENCE;
    while !is(&port.send("GET /v1/models", CLOSE, "").await, 503, &["being loaded"]) {
        assert!(tokio::time::Instant::now() < until, "no permit was released");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_stopping_server_rejects_calls_and_closes_their_connections_but_accepts_probes() {
    let stop = CancellationToken::new();
    let acquired = TaskTracker::new();
    let permits = ConnectionPermits::new(NonZeroUsize::new(2).expect("not zero"), acquired.clone());
    let port =
        open_with(MAX_CONNECTIONS, |readiness| Some(OpenAi { permits, stop: stop.clone(), ..openai(readiness) })).await;
    let mut client = port.connect().await;
    assert!(!call(&mut client).await.contains("connection: close"));
    port.readiness.enter(Phase::Stopping);
    let answer = port.send("GET /v1/models", "", "").await;
    assert!(
        is(&answer, 503, &["being loaded", "\r\nconnection: close\r\n"]),
        "answered, but the connection is closed: {answer}"
    );

    assert_eq!(acquired.len(), 1, "the connection that is still open");
    acquired.close();
    stop.cancel();
    tokio::time::timeout(PATIENCE, acquired.wait()).await.expect("its connection is closed");
    assert_eq!(read(&mut client).await, "");
    let answer = port.send("POST /v1/embeddings", "", "{}").await;
    assert!(is(&answer, 503, &["the server is stopping", "\r\nconnection: close\r\n"]), "{answer}");
    assert!(acquired.is_empty(), "the drain need not wait for rejected calls");
    assert!(is(&port.send("GET /healthz", CLOSE, "").await, 200, &["ok"]));
}

#[tokio::test]
async fn a_panicking_call_is_answered_with_500() {
    async fn panics() {
        panic!("on purpose");
    }
    let api = openai(&Readiness::default());
    let mut routes = Router::new().route("/", get(panics)).layer(from_fn_with_state(api, handle));
    let request = Request::new(Body::empty());
    let response = tower_call(&mut routes, request).await;
    assert_eq!(response.status(), 500);
}

async fn tower_call(routes: &mut Router, request: Request) -> Response {
    tower::Service::call(routes, request).await.expect("an answer")
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_arrives_times_out() {
    let port = open().await;
    let mut stream = port.connect().await;
    let head = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let started = tokio::time::Instant::now();
    let answer = read(&mut stream).await;
    assert!(is(&answer, 408, &["timed out"]), "{answer}");
    assert!(started.elapsed() <= Duration::from_secs(61));
}

#[tokio::test]
async fn a_call_is_rejected_before_its_body_is_read() {
    let port =
        open_with(MAX_CONNECTIONS, |readiness| Some(OpenAi { tokens: Some(tokens("secret\n")), ..openai(readiness) }))
            .await;
    let head = |headers: &str| format!("POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let wrong = "Authorization: Bearer wrong\r\n";
    let right = "Authorization: Bearer secret\r\n";
    for (headers, status) in [
        (format!("{wrong}Content-Length: 900\r\nExpect: 100-continue\r\n"), 401),
        (format!("{wrong}Content-Length: 900\r\n"), 401),
        (format!("{wrong}Transfer-Encoding: chunked\r\n"), 401),
        (format!("{right}Content-Length: 1001\r\nExpect: 100-continue\r\n"), 413),
        (format!("{right}Content-Length: 900\r\nContent-Encoding: br\r\nExpect: 100-continue\r\n"), 415),
    ] {
        let mut stream = port.connect().await;
        stream.write_all(head(&headers).as_bytes()).await.expect("sent");
        let mut answer = vec![0; 4096];
        let size = stream.read(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..size]);
        assert!(is(&answer, status, &[]), "{headers}: {answer}");
    }
    // The client sends its body without waiting, and sees the reply.
    let body = "x".repeat(900);
    let answer = port.send("POST /v1/embeddings", wrong, &body).await;
    assert!(is(&answer, 401, &["\r\nconnection: close\r\n"]), "{answer}");
    // If the server asked for it, the body is read.
    let mut stream = port.connect().await;
    let headers = format!("{right}{CLOSE}Content-Length: 2\r\nExpect: 100-continue\r\n");
    stream.write_all(head(&headers).as_bytes()).await.expect("sent");
    let mut answer = vec![0; 4096];
    let size = stream.read(&mut answer).await.expect("an answer");
    assert!(answer[..size].starts_with(b"HTTP/1.1 100 Continue"));
    stream.write_all(b"{}").await.expect("sent");
    assert!(is(&read(&mut stream).await, 503, &["being loaded"]));
}
