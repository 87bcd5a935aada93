use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::task::TaskTracker;

use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::caller::Priority;
use crate::http::tests::{PATIENCE, Port, apis, open_with, read};
use crate::model_slot::ModelSlot;
use crate::net::MaxConnections;
use crate::reload::NamedFile;
use crate::stats::Stats;

const MAX_CONNECTIONS: MaxConnections = MaxConnections { count: 8, setting: None };

pub(in crate::http) fn api(readiness: &Readiness) -> Api {
    Api {
        serving: Serving {
            model: ModelSlot::default(),
            requests: TaskTracker::new(),
            stats: Stats::default(),
            default_priority: Priority::Interactive,
        },
        tokens: None,
        max_body_bytes: 1000,
        max_texts: NonZeroUsize::new(8).expect("not zero"),
        permits: ConnectionPermits::new(NonZeroUsize::new(2).expect("not zero"), TaskTracker::new()),
        cors: None,
        gzip_replies: None,
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
    open_with(MAX_CONNECTIONS, |readiness| Some(apis(api(readiness)))).await
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
        ("POST /v1/embeddings", "Content-Encoding: gzip\r\n", "\x1f\x08", 400, "its compression is damaged"),
        ("POST /v1/embeddings", "Content-Encoding: br\r\n", "{}", 415, "\r\naccept-encoding: gzip\r\n"),
        ("POST /v1/embeddings", "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", "{}", 415, "`gzip`"),
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
    assert!(is(&port.send("GET /v1", CLOSE, "").await, 404, &["unknown path", "/v1/embeddings"]));
    let metrics = port.send("GET /metrics", CLOSE, "").await;
    for route in ["/v1/embeddings", "/v1/models", "/v1/models/{model}", "/v1/models/{model}/{*rest}", "/v1/{*path}"] {
        assert!(metrics.contains(&format!("http_route=\"{route}\"")), "{route}: {metrics}");
    }
}

#[tokio::test]
async fn calls_need_a_token_if_tokens_are_configured_and_probes_do_not() {
    let port =
        open_with(MAX_CONNECTIONS, |readiness| Some(apis(Api { tokens: Some(tokens("secret\n")), ..api(readiness) })))
            .await;
    for line in ["POST /v1/embeddings", "GET /v1/models", "GET /v1/other"] {
        for header in ["", "Authorization: Bearer wrong\r\n", "Authorization: secret\r\n", "api-key: wrong\r\n"] {
            let answer = port.send(line, header, "{}").await;
            let parts = ["invalid_api_key", "\r\nwww-authenticate: Bearer\r\n", "\r\nconnection: close\r\n"];
            assert!(is(&answer, 401, &parts) && !answer.contains("secret"), "{answer}");
        }
    }
    for line in ["POST /v1/embeddings", "GET /v1/models"] {
        // The second is that of Azure's clients.
        for header in ["Authorization: bearer secret\r\n", "api-key: secret\r\n"] {
            let answer = port.send(line, &format!("{CLOSE}{header}"), "{}").await;
            assert!(is(&answer, 503, &["being loaded"]), "{answer}");
        }
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
        open_with(MAX_CONNECTIONS, |readiness| Some(apis(Api { permits, stop: stop.clone(), ..api(readiness) }))).await;
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
    let api = api(&Readiness::default());
    let mut routes = api.wrap(Router::new().route("/", get(panics)), crate::http::openai::error);
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
        open_with(MAX_CONNECTIONS, |readiness| Some(apis(Api { tokens: Some(tokens("secret\n")), ..api(readiness) })))
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

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, body).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_is_decompressed_up_to_the_limit() {
    let read = async |body: Vec<u8>| {
        let mut headers = HeaderMap::new();
        headers.insert("content-encoding", HeaderValue::from_static("gzip"));
        body::read(&headers, body.into(), 1000, None, is_json).await.map_err(|refusal| refusal.status.as_u16())
    };
    assert_eq!(read(gzip(&[b'a'; 1000])).await, Ok(vec![b'a'; 1000]));
    assert_eq!(read([gzip(b"two "), gzip(b"members")].concat()).await, Ok(b"two members".to_vec()));
    assert_eq!(read(gzip(&[b'a'; 1001])).await, Err(413));
    assert_eq!(read(gzip(&vec![0; 100_000_000])).await, Err(413), "a bomb of 100 MB");
    assert_eq!(read(gzip(b"cut off")[..12].to_vec()).await, Err(400));
    assert_eq!(read(b"not compressed".to_vec()).await, Err(400));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_replies_are_compressed_for_clients_that_accept_it() {
    let text = "0.123456789,".repeat(1000);
    let compressed = async |accept: &'static str, min: Option<usize>| {
        let mut headers = HeaderMap::new();
        headers.insert("accept-encoding", HeaderValue::from_static(accept));
        let response = write::json(text.clone().into_bytes());
        let response = body::compress(response, body::accepts_gzip(&headers), min.and_then(NonZeroUsize::new)).await;
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body").to_vec();
        let is_gzip = head.headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip");
        let vary = head.headers.get("vary").is_some_and(|vary| vary == "accept-encoding");
        if is_gzip {
            assert!(body.len() < text.len() / 10);
            let mut decoded = String::new();
            std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&body[..]), &mut decoded).expect("gzip");
            assert_eq!(decoded, text);
        } else {
            assert_eq!(body, text.as_bytes());
        }
        (is_gzip, vary)
    };
    assert_eq!(compressed("gzip, deflate", Some(1000)).await, (true, true));
    assert_eq!(compressed("br;q=1.0, gzip;q=0.5, *;q=0.1", Some(1000)).await, (true, true));
    assert_eq!(compressed("*", Some(1000)).await, (true, true));
    assert_eq!(compressed("gzip;q=0", Some(1000)).await, (false, true));
    assert_eq!(compressed("identity", Some(1000)).await, (false, true));
    assert_eq!(compressed("gzip", Some(1_000_000)).await, (false, false));
    assert_eq!(compressed("gzip", None).await, (false, false));
}

#[tokio::test]
async fn web_pages_of_the_listed_origins_may_call() {
    let origins = Some(CorsOrigins::List(vec![HeaderValue::from_static("https://app.example")]));
    let with_token =
        |readiness: &Readiness| apis(Api { cors: origins.clone(), tokens: Some(tokens("secret\n")), ..api(readiness) });
    let port = open_with(MAX_CONNECTIONS, |readiness| Some(with_token(readiness))).await;
    let preflight = "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n\
                     Access-Control-Request-Headers: authorization,content-type,x-stainless-os\r\n";
    for path in ["/v1/embeddings", "/embed", "/v2/embed", "/v2/models/model/infer", "/v1//embeddings"] {
        let answer = port.send(&format!("OPTIONS {path}"), &format!("{CLOSE}{preflight}"), "").await;
        let parts = [
            "\r\naccess-control-allow-origin: https://app.example\r\n",
            "\r\naccess-control-allow-headers: authorization,content-type,x-stainless-os\r\n",
            "\r\naccess-control-allow-methods: GET,POST\r\n",
        ];
        assert!(is(&answer, 200, &parts), "without a token: {answer}");
    }
    let json = "Content-Type: application/json\r\n";
    let headers = format!("{CLOSE}{json}Origin: https://app.example\r\nSec-Fetch-Site: cross-site\r\n");
    let answer = port.send("POST /v1/embeddings", &headers, "{}").await;
    assert!(is(&answer, 401, &["access-control-allow-origin: https://app.example"]), "{answer}");
    let answer = port.send("POST /v1/embeddings", &format!("{headers}Authorization: Bearer secret\r\n"), "{}").await;
    assert!(
        is(&answer, 503, &["access-control-allow-origin", "access-control-expose-headers: retry-after,"]),
        "{answer}"
    );
    let other = "Origin: https://other.example\r\nAccess-Control-Request-Method: POST\r\n";
    let answer = port.send("OPTIONS /v1/embeddings", &format!("{CLOSE}{other}"), "").await;
    assert!(!answer.contains("access-control-allow-origin"), "{answer}");

    let without_token = |readiness: &Readiness| apis(Api { cors: origins.clone(), ..api(readiness) });
    let port = open_with(MAX_CONNECTIONS, |readiness| Some(without_token(readiness))).await;
    assert!(is(&port.send("POST /v1/embeddings", &headers, "{}").await, 503, &["being loaded"]));
    let other = format!("{CLOSE}Origin: https://other.example\r\n");
    assert!(is(&port.send("POST /v1/embeddings", &other, "{}").await, 403, &["foreign_origin"]));
}

#[tokio::test]
async fn errors_have_the_form_of_their_protocol() {
    let port = open().await;
    for (line, status, parts) in [
        ("POST /embed", 503, ["{\"error\":\"the model is being loaded", "\"error_type\":\"Unhealthy\"}"]),
        ("POST /rerank", 501, ["{\"error\":\"the model does not rank", "\"error_type\":\"Backend\"}"]),
        ("POST /v2/embed", 503, ["{\"message\":\"the model is being loaded", "\r\nretry-after: 1\r\n"]),
        ("GET /v2/models/model", 503, ["{\"error\":\"the model is being loaded", "\r\nretry-after: 1\r\n"]),
        ("GET /embed", 405, ["{\"error\":\"method not allowed", "\r\nallow: POST\r\n"]),
        ("GET /unknown", 404, ["{\"error\":{\"", "/v1/embeddings"]),
        ("POST /healthz", 405, ["{\"error\":{\"", "\r\nallow: GET,HEAD\r\n"]),
    ] {
        let answer = port.send(line, CLOSE, "{}").await;
        assert!(is(&answer, status, &parts), "{line}: {answer}");
        assert!(answer.contains("\r\ncontent-type: application/json\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn every_route_is_described() {
    let port = open().await;
    let answer = port.send("GET /openapi.json", CLOSE, "").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(head.contains("content-type: application/json"), "{head}");
    let described: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(described["openapi"], "3.1.0");
    let paths = described["paths"].as_object().expect("paths");
    for (path, methods) in paths {
        for method in methods.as_object().expect("methods").keys() {
            let path = path.replace("{model}", "model");
            let answer = port.send(&format!("{} {path}", method.to_uppercase()), CLOSE, "{}").await;
            assert!(!is(&answer, 404, &[]) && !is(&answer, 405, &[]), "{method} {path}: {answer}");
        }
        // OpenAPI requires them.
        let responses = methods.as_object().expect("methods").values().map(|method| &method["responses"]);
        for (status, response) in responses.flat_map(|responses| responses.as_object().expect("responses")) {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{path}: {status}");
        }
    }
    let expected = ["/", "/embed", "/similarity", "/v1/embeddings", "/v2/embed", "/v2/models/{model}/infer"];
    assert!(expected.iter().all(|path| paths.contains_key(*path)), "{paths:?}");
}
