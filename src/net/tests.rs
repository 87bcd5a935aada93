//! Real sockets. Where time is paused, it advances only while nothing else can be done.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;

/// Keeps a test from hanging forever; no result depends on it.
const PATIENCE: Duration = Duration::from_secs(3600);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LARGE_REPLY: usize = 32 << 20;

const LIMITS: ConnectionLimits = ConnectionLimits {
    keepalive_interval: None,
    keepalive_timeout: Duration::from_secs(20),
    idle_timeout: Some(Duration::from_secs(300)),
    max_age: None,
    grace: None,
    reply_timeout: Duration::from_secs(60),
    max_concurrent_streams: 64,
    max_header_bytes: 4096,
};

/// A listener with room for two connections.
pub(crate) fn config(protocols: Protocols) -> ListenerConfig {
    let bytes = ByteLimits { process: 1 << 20, per_connection: 1 << 20 };
    ListenerConfig {
        tls: None,
        protocols,
        max_connections: MaxConnections { count: 2, setting: None },
        limits: LIMITS,
        budgets: Budgets::new(bytes, bytes, 8),
        draining: None,
        kind: |path| match path {
            "/watch" => CallKind::Watch,
            "/probe" => CallKind::Probe,
            _ => CallKind::Work,
        },
    }
}

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(config: ListenerConfig) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(config, || tower::service_fn(answer), socket, stop.clone()));
        Self { address, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// A connection that has sent a request for this path.
    async fn ask(&self, path: &str) -> TcpStream {
        let mut stream = self.connect().await;
        ask(&mut stream, path).await;
        stream
    }
}

/// The service: `/wait` and `/watch` never answer, `/large` answers with more than a socket can hold, and all others
/// with whether they were admitted.
async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let call: &Call = request.extensions().get().expect("the driver adds it");
    Ok(Response::new(match request.uri().path() {
        "/wait" | "/watch" => std::future::pending().await,
        "/large" => "x".repeat(LARGE_REPLY),
        _ if call.is_admitted() => "admitted".to_owned(),
        _ => "rejected".to_owned(),
    }))
}

async fn ask(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
}

/// Reads one reply with a short body.
async fn reply(stream: &mut TcpStream) -> String {
    let mut reply = Vec::new();
    while !reply.ends_with(b"ed") {
        reply.push(stream.read_u8().await.expect("a reply"));
    }
    String::from_utf8(reply).expect("text")
}

/// Reads until the server closes the connection.
async fn end(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    // A connection that is cut off yields an error after the bytes that were sent.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut received)).await.expect("an end");
    received
}

/// The time until the server closes the connection.
async fn lifetime(stream: &mut TcpStream) -> Duration {
    let start = Instant::now();
    end(stream).await;
    start.elapsed()
}

/// A time that is looked at once per second.
fn is_about(time: Duration, expected: u64) -> bool {
    (expected - 1..=expected + 2).contains(&time.as_secs())
}

#[tokio::test(start_paused = true)]
async fn clients_that_do_not_begin_to_speak_are_disconnected() {
    for (protocols, first, seconds) in [
        (Protocols::Http2, &b""[..], 10),
        (Protocols::Http2, b"PRI *", 10),
        (Protocols::Http1OrHttp2, b"", 30),
        (Protocols::Http1OrHttp2, b"PRI *", 30),
        (Protocols::Http1OrHttp2, b"GET / HTTP/1.1\r\nhost:", 30),
        (Protocols::Http1OrHttp2, PREFACE, 1),
    ] {
        let server = Server::start(config(protocols)).await;
        let mut stream = server.connect().await;
        stream.write_all(first).await.expect("sent");
        let took = lifetime(&mut stream).await;
        assert!(is_about(took, seconds), "{protocols:?} {first:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_arrives_byte_by_byte_is_cut_off_and_an_idle_connection_is_not() {
    let server = Server::start(config(Protocols::Http1OrHttp2)).await;
    let mut stream = server.ask("/").await;
    assert!(reply(&mut stream).await.ends_with("admitted"));
    sleep(Duration::from_secs(200)).await;
    ask(&mut stream, "/").await;
    assert!(reply(&mut stream).await.ends_with("admitted"), "idle for longer than a head may take");
    let start = Instant::now();
    while stream.write_all(b"G").await.is_ok() && start.elapsed() < PATIENCE {
        sleep(Duration::from_secs(1)).await;
    }
    let took = start.elapsed();
    assert!((29..=34).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_idle_for_too_long_is_closed() {
    let server = Server::start(config(Protocols::Http1OrHttp2)).await;
    let mut stream = server.ask("/").await;
    reply(&mut stream).await;
    let took = lifetime(&mut stream).await;
    assert!(is_about(took, 300), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_reply_is_disconnected() {
    let server = Server::start(config(Protocols::Http1OrHttp2)).await;
    let mut stream = server.ask("/large").await;
    stream.readable().await.expect("the beginning of the reply");
    sleep(Duration::from_secs(90)).await;
    let received = end(&mut stream).await;
    assert!(received.len() < LARGE_REPLY, "the rest of the reply is dropped");
}

#[tokio::test]
async fn an_idle_connection_gives_way_to_a_new_one_and_a_busy_one_does_not() {
    let server = Server::start(config(Protocols::Http1OrHttp2)).await;
    let mut busy = server.ask("/wait").await;
    for first in ["", "/", "/watch"] {
        let mut idle = server.connect().await;
        if !first.is_empty() {
            ask(&mut idle, first).await;
        }
        if first == "/" {
            reply(&mut idle).await;
        }
        sleep(Duration::from_millis(300)).await;
        let mut new = server.ask("/").await;
        assert!(reply(&mut new).await.ends_with("admitted"), "{first:?}");
        end(&mut idle).await;
    }
    sleep(Duration::from_millis(300)).await;
    let mut second = server.ask("/wait").await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(end(&mut server.ask("/").await).await, b"", "both connections are busy");
    for stream in [&mut busy, &mut second] {
        assert!(timeout(Duration::from_millis(10), stream.read_u8()).await.is_err(), "still open");
    }
}

#[tokio::test]
async fn calls_beyond_the_memory_for_them_are_rejected_and_probes_are_not() {
    let mut config = config(Protocols::Http1OrHttp2);
    let bytes = ByteLimits { process: 40 << 10, per_connection: 16 << 10 };
    config.budgets = Budgets::new(bytes, bytes, 8);
    config.max_connections.count = 8;
    let server = Server::start(config).await;
    let waiting = [server.ask("/wait").await, server.ask("/watch").await, server.ask("/wait").await];
    sleep(Duration::from_millis(100)).await;
    assert!(reply(&mut server.ask("/").await).await.ends_with("rejected"), "three calls leave too little");
    assert!(reply(&mut server.ask("/probe").await).await.ends_with("admitted"));
    drop(waiting);
    let admitted = async {
        while !reply(&mut server.ask("/").await).await.ends_with("admitted") {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, admitted).await.expect("the memory is free again");
}

/// Sends calls over HTTP/2 and cancels each of them; returns how many the server allowed.
async fn cancel_calls(server: &Server, calls: usize) -> usize {
    let (client, connection) = h2::client::handshake(server.connect().await).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut cancelled = 0;
    while cancelled < calls {
        let Ok(mut ready) = client.clone().ready().await else { break };
        let request = Request::get("http://localhost/wait").body(()).expect("a request");
        let Ok((response, mut body)) = ready.send_request(request, true) else { break };
        // The server must have accepted the call.
        sleep(Duration::from_millis(1)).await;
        body.send_reset(h2::Reason::CANCEL);
        drop(response);
        cancelled += 1;
    }
    connection.abort();
    cancelled
}

#[tokio::test(start_paused = true)]
async fn a_client_that_keeps_cancelling_its_calls_is_disconnected() {
    let server = Server::start(config(Protocols::Http2)).await;
    assert_eq!(cancel_calls(&server, 200).await, 200, "a client may cancel all its calls");
    let cancelled = cancel_calls(&server, 10_000).await;
    assert!(cancelled < 2000, "{cancelled} calls were cancelled (CVE-2023-44487)");
}

#[tokio::test]
async fn both_protocols_are_served_on_one_port() {
    let server = Server::start(config(Protocols::Http1OrHttp2)).await;
    assert!(reply(&mut server.ask("/").await).await.starts_with("HTTP/1.1 200 OK"));
    let (client, connection) = h2::client::handshake(server.connect().await).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = Request::get("http://localhost/").body(()).expect("a request");
    let (response, _) = client.ready().await.expect("a connection").send_request(request, true).expect("sent");
    let body = response.await.expect("a response").into_body().data().await.expect("a body");
    assert_eq!(body.expect("a body"), "admitted");
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_waits_for_calls() {
    let server = Server::start(config(Protocols::Http1OrHttp2)).await;
    let mut idle = server.ask("/").await;
    reply(&mut idle).await;
    let busy = server.ask("/wait").await;
    sleep(Duration::from_millis(100)).await;
    server.stop.cancel();
    end(&mut idle).await;
    assert!(TcpStream::connect(server.address).await.is_err(), "the listener is closed");
    assert!(!server.task.is_finished(), "a call is in flight");
    drop(busy);
    timeout(PATIENCE, server.task).await.expect("an end").expect("no panic");
}
