use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::task::TaskTracker;

use super::*;
use crate::accept::Room;
use crate::http::tests::{PATIENCE, Port, open_with, read};
use crate::model_slot::ModelSlot;
use crate::reload::NamedFile;
use crate::stats::Stats;

const ROOM: Room = Room { connections: 8, setting: None };

fn openai(readiness: &Readiness) -> OpenAi {
    OpenAi {
        serving: Serving { model: ModelSlot::default(), requests: TaskTracker::new(), stats: Stats::default() },
        tokens: None,
        max_body_bytes: 1000,
        seats: Seats::new(NonZeroUsize::new(2).expect("not zero"), TaskTracker::new()),
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
    open_with(ROOM, |readiness| Some(openai(readiness))).await
}

const CLOSE: &str = "Connection: close\r\n";

fn is(answer: &str, status: u16, parts: &[&str]) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} ")) && parts.iter().all(|part| answer.contains(part))
}

#[tokio::test]
async fn errors_have_openais_shape_wherever_they_come_from() {
    let port = open().await;
    let large = "x".repeat(1001);
    for (line, headers, body, status, part) in [
        ("POST /v1/embeddings", "", "{}", 503, "the model is being loaded"),
        ("POST /v1/embeddings", "Content-Type: application/json; charset=utf-8\r\n", "{}", 503, "retry-after-ms: "),
        ("GET /v1/models", "", "", 503, "retry-after: 1\r\n"),
        ("GET /v1/models/a%2Fb", "", "", 503, "server_error"),
        ("POST /v1/embeddings", "", &large, 413, "more than 1000 bytes"),
        ("POST /v1/embeddings", "Content-Type: text/plain\r\n", "{}", 415, "content-type: application/json"),
        ("GET /v1/embeddings", "", "", 405, "\r\nallow: POST\r\n"),
        ("DELETE /v1/models/a/b", "", "", 405, "\r\nallow: GET,HEAD\r\n"),
        ("POST /v1/chat/completions", "", "{}", 404, "POST /v1/embeddings"),
    ] {
        let answer = port.send(line, &format!("{CLOSE}{headers}"), body).await;
        assert!(is(&answer, status, &[part, "{\"error\":{", "\"type\":\"", "application/json"]), "{line}: {answer}");
    }
    assert!(is(&port.send("GET /v1", CLOSE, "").await, 404, &["there is nothing here"]));
    let metrics = port.send("GET /metrics", CLOSE, "").await;
    for route in ["/v1/embeddings", "/v1/models", "/v1/models/{*name}", "/v1/{*path}"] {
        assert!(metrics.contains(&format!("http_route=\"{route}\"")), "{route}: {metrics}");
    }
}

#[tokio::test]
async fn calls_need_a_token_where_there_are_tokens_and_probes_do_not() {
    let port =
        open_with(ROOM, |readiness| Some(OpenAi { tokens: Some(tokens("secret\n")), ..openai(readiness) })).await;
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

/// Sends a call and reads its answer on a connection that stays, as far as the server will have it.
async fn call(stream: &mut tokio::net::TcpStream) -> String {
    stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = vec![0; 4096];
    let size = stream.read(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer[..size]).into_owned()
}

#[tokio::test]
async fn callers_cannot_take_all_the_room_that_there_is() {
    let port = open().await;
    let (mut first, mut second, mut third) = (port.connect().await, port.connect().await, port.connect().await);
    for _ in 0..2 {
        for stream in [&mut first, &mut second] {
            assert!(is(&call(stream).await, 503, &["being loaded"]), "a seat");
        }
    }
    let answer = call(&mut third).await;
    assert!(is(&answer, 503, &["--max-connections", "\r\nconnection: close\r\n"]), "{answer}");
    assert_eq!(read(&mut third).await, "", "it is closed");
    assert!(is(&port.send("GET /healthz", CLOSE, "").await, 200, &["ok"]), "probes come in");
    drop(first);
    let until = tokio::time::Instant::now() + PATIENCE;
    while !is(&port.send("GET /v1/models", CLOSE, "").await, 503, &["being loaded"]) {
        assert!(tokio::time::Instant::now() < until, "still no seat");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn at_the_end_callers_are_sent_away_and_their_connections_closed_while_probes_come_in() {
    let stop = CancellationToken::new();
    let (taken, token) = (TaskTracker::new(), stop.clone());
    let seats = Seats::new(NonZeroUsize::new(2).expect("not zero"), taken.clone());
    let port = open_with(ROOM, |readiness| Some(OpenAi { seats, stop: token, ..openai(readiness) })).await;
    let mut stays = port.connect().await;
    assert!(!call(&mut stays).await.contains("connection: close"));
    port.readiness.enter(Phase::Stopping);
    let answer = port.send("GET /v1/models", "", "").await;
    assert!(is(&answer, 503, &["being loaded", "\r\nconnection: close\r\n"]), "served, but told to go: {answer}");

    assert_eq!(taken.len(), 1, "the connection that is still there");
    taken.close();
    stop.cancel();
    tokio::time::timeout(PATIENCE, taken.wait()).await.expect("its connection is closed");
    assert_eq!(read(&mut stays).await, "");
    let answer = port.send("POST /v1/embeddings", "", "{}").await;
    assert!(is(&answer, 503, &["the server is stopping", "\r\nconnection: close\r\n"]), "{answer}");
    assert!(taken.is_empty(), "nobody has to wait for those who were sent away");
    assert!(is(&port.send("GET /healthz", CLOSE, "").await, 200, &["ok"]));
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    async fn panics() {
        panic!("as a test wants it");
    }
    let api = openai(&Readiness::default());
    let mut routes = Router::new().route("/", get(panics)).layer(from_fn_with_state(api, answer));
    let request = Request::new(Body::empty());
    let response = tower_call(&mut routes, request).await;
    assert_eq!(response.status(), 500);
}

async fn tower_call(routes: &mut Router, request: Request) -> Response {
    use hyper::service::Service as _;
    let service = hyper_util::service::TowerToHyperService::new(routes.clone());
    service.call(request).await.expect("an answer")
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let port = open().await;
    let mut stream = port.connect().await;
    let head = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let begun = tokio::time::Instant::now();
    let answer = read(&mut stream).await;
    assert!(is(&answer, 408, &["took too long"]), "{answer}");
    assert!(begun.elapsed() <= Duration::from_secs(61));
}
