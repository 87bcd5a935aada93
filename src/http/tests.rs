use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::model_slot::ModelSlot;
use crate::net::tests::config;
use crate::net::{MaxConnections, Protocols};
use crate::stats::Stats;

/// Keeps a test from hanging forever; no result depends on it.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Port {
    address: SocketAddr,
    pub(super) readiness: Readiness,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

/// All APIs.
pub(super) fn apis(api: Api) -> Apis {
    let page = Page { history: History::default(), grpc_port: 50051, grpc_tls: false, tei: true };
    Apis { api, tei: true, open_inference: true, page: Some(page) }
}

async fn open() -> Port {
    open_with(MaxConnections { count: 2, setting: None }, |_| None).await
}

/// A port with the APIs that `apis` builds from the port's readiness.
pub(super) async fn open_with(max_connections: MaxConnections, apis: impl FnOnce(&Readiness) -> Option<Apis>) -> Port {
    let metrics = Metrics::new(Stats::default(), ModelSlot::default(), Readiness::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let readiness = metrics.readiness.clone();
    let stop = CancellationToken::new();
    let address = listener.local_addr().expect("an address");
    let config = ListenerConfig { max_connections, ..config(Protocols::Http1OrHttp2) };
    let apis = apis(&readiness);
    let server = tokio::spawn(HttpListener { metrics, config, apis }.serve(listener, stop.clone()));
    Port { address, readiness, stop, server }
}

impl Port {
    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// The reply to a request on a new connection.
    async fn ask(&self, line: &str) -> String {
        self.send(line, "Connection: close\r\n", "").await
    }

    /// The reply to a request after which the connection is closed.
    pub(super) async fn send(&self, line: &str, headers: &str, body: &str) -> String {
        let mut stream = self.connect().await;
        let length = body.len();
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        stream.write_all(request.as_bytes()).await.expect("sent");
        read(&mut stream).await
    }
}

/// Reads until the server closes the connection.
pub(super) async fn read(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is cut off yields an error after the bytes that were sent.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn readyz_reports_the_reason_and_healthz_fails_only_while_a_session_does_not_work() {
    let port = open().await;
    for (phase, status, reason) in [
        (Phase::Loading, "503 Service Unavailable", "NOT_SERVING: the model is being loaded"),
        (Phase::Ready, "200 OK", "SERVING"),
        (Phase::Faulty, "503 Service Unavailable", "NOT_SERVING: a session does not work"),
        (Phase::Stopping, "503 Service Unavailable", "NOT_SERVING: the server is stopping"),
    ] {
        port.readiness.enter(phase);
        let answer = port.ask("GET /readyz").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{reason}\n")), "{answer}");
        let is_alive = port.ask("GET /healthz").await.starts_with("HTTP/1.1 200 OK\r\n");
        assert_eq!(is_alive, phase != Phase::Faulty, "{phase}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_rejected_and_counted_under_one_name() {
    let port = open().await;
    assert!(port.ask("GET /").await.starts_with("HTTP/1.1 404 "));
    assert!(port.ask("GET /metrics/x?y").await.starts_with("HTTP/1.1 404 "));
    for line in ["POST /metrics", "DELETE /readyz", "BREW /healthz"] {
        let answer = port.ask(line).await;
        assert!(
            answer.starts_with("HTTP/1.1 405 ") && answer.to_lowercase().contains("\r\nallow: get,head\r\n"),
            "{answer}"
        );
    }
    let head = port.ask("HEAD /metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let metrics = port.ask("GET /metrics").await;
    assert!(metrics.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{metrics}");
    let accept = "Connection: close\r\nAccept: application/openmetrics-text\r\n";
    let openmetrics = port.send("GET /metrics", accept, "").await;
    let kind = "\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(openmetrics.contains(kind) && openmetrics.ends_with("# EOF\n"), "{openmetrics}");
    let count = |method: &str, route: &str, status: u16, count: u64| {
        let labels =
            format!("http_request_method=\"{method}\",http_route=\"{route}\",http_response_status_code=\"{status}\"");
        let line = format!("http_server_request_duration_seconds_count{{{labels}}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    };
    count("GET", "_OTHER", 404, 2);
    count("POST", "/metrics", 405, 1);
    count("_OTHER", "/healthz", 405, 1);
    count("HEAD", "/metrics", 200, 1);
}

#[tokio::test]
async fn request_heads_beyond_the_limit_are_rejected() {
    let port = open().await;
    let filler = |bytes| {
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nFiller: {}", "x".repeat(bytes))
    };
    for (bytes, status) in [(3000, "200"), (5000, "431"), (100_000, "431")] {
        let mut stream = port.connect().await;
        // The server may close the connection before it has read everything.
        let _ = stream.write_all(format!("{}\r\n\r\n", filler(bytes)).as_bytes()).await;
        let answer = read(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) || bytes > 50_000 && answer.is_empty(), "{answer}");
    }
}

#[tokio::test]
async fn stopping_the_port_closes_idle_connections() {
    let port = open().await;
    let mut idle = port.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    idle.read_exact(&mut [0; 15]).await.expect("an answer");
    port.stop.cancel();
    tokio::time::timeout(PATIENCE, port.server).await.expect("it ends").expect("no panic");
    read(&mut idle).await;
    assert!(TcpStream::connect(port.address).await.is_err(), "the listener is closed");
}
