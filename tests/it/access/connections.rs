//! Connection limits: number, age, header size and concurrent streams.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use embedd_proto::embedding_service_client::EmbeddingServiceClient;
use embedd_proto::{EmbedRequest, EmbedResponse, GetModelRequest};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use super::{call, connect, get_model, with};
use crate::support::PATIENCE;
use crate::support::all;
use crate::support::http2::{self, RawConnection, frame};
use crate::support::models::Model;
use crate::support::proxy::CountingProxy;
use crate::support::server::{Server, embed, request, shared};
use crate::support::tls::TlsFiles;

/// Less than the time after which silent clients are disconnected anyway.
const SILENT_CLIENTS_TIMEOUT: Duration = Duration::from_secs(8);
/// The maximum age of a connection varies by a tenth in either direction.
const SHORTEST_AGE: Duration = Duration::from_millis(900);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_end_at_their_maximum_age_and_no_accepted_call_fails() {
    let server = Server::start(Model::Small, &["--max-connection-age", "1s"]);
    let proxy = CountingProxy::to(&server).await;
    let begun = Instant::now();
    let channel = connect(proxy.address, None).await.expect("a connection");
    let stop = Arc::new(AtomicBool::new(false));
    let callers = (0..4).map(|_| {
        let mut client = EmbeddingServiceClient::new(channel.clone());
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                match client.embed(request(&["a short text"])).await {
                    Ok(_) => calls += 1,
                    Err(status) if was_not_accepted(&status) => {}
                    Err(status) => panic!("{status:?}"),
                }
            }
            calls
        })
    });
    let callers: Vec<_> = callers.collect();
    proxy.wait_for(4).await;
    let connections = proxy.connections() as f64;
    // No connection ended early, no matter how long the test took.
    let due = begun.elapsed().as_secs_f64() / SHORTEST_AGE.as_secs_f64();
    assert!(connections <= 1.0 + due, "{connections} connections within {due} times the age");
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.expect("no call failed") > 0);
    }
}

/// Whether tonic returned the call because the connection ended before the server accepted it: before it was sent, or with
/// a GOAWAY that names an earlier call as the last one (RFC 9113, 6.8). Other gRPC libraries retry such a call.
fn was_not_accepted(status: &Status) -> bool {
    let text = format!("{status:?}");
    let unsent = status.code() == Code::Cancelled && text.contains("connection closed");
    unsent || status.code() == Code::Internal && text.contains("GoAway(b\"\", NO_ERROR, Remote)")
}

/// Opens a stream that lasts until the sender is dropped, and waits for its first reply.
async fn open_stream(channel: Channel) -> (mpsc::Sender<EmbedRequest>, Streaming<EmbedResponse>) {
    let (sender, requests) = mpsc::channel(1);
    let mut client = EmbeddingServiceClient::new(channel);
    let mut replies = client.embed_stream(ReceiverStream::new(requests)).await.expect("a stream").into_inner();
    sender.send(request(&["the first"])).await.expect("the stream is open");
    replies.message().await.expect("no error").expect("a reply");
    (sender, replies)
}

#[tokio::test]
async fn calls_in_progress_continue_when_their_connection_has_reached_its_maximum_age() {
    let server = Server::start(Model::Small, &["--max-connection-age", "1s"]);
    let proxy = CountingProxy::to(&server).await;
    let channel = connect(proxy.address, None).await.expect("a connection");
    let (sender, mut replies) = open_stream(channel.clone()).await;
    // Once the first connection has reached its maximum age, other calls need a new one.
    while proxy.connections() < 2 {
        match get_model(channel.clone(), None).await {
            Ok(()) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(status) => assert!(was_not_accepted(&status), "{status:?}"),
        }
    }
    for text in ["the second", "the third"] {
        sender.send(request(&[text])).await.expect("the stream is open");
        replies.message().await.expect("no error").expect("a reply");
    }
    drop(sender);
    assert!(replies.message().await.expect("no error").is_none(), "the end");
}

#[tokio::test]
async fn a_call_that_exceeds_the_grace_is_cut_off_and_new_connections_are_accepted() {
    let server = Server::start(Model::Small, &["--max-connection-age", "1s", "--max-connection-age-grace", "100ms"]);
    let (_sender, mut replies) = open_stream(connect(server.address, None).await.expect("a connection")).await;
    timeout(PATIENCE, replies.message()).await.expect("an end").expect_err("cut off");
    call(server.address, None).await.expect("a new connection");
}

#[tokio::test]
async fn an_idle_connection_gives_way_to_a_new_one_and_a_busy_one_does_not() {
    let server = Server::start(Model::Small, &["--max-connections", "1"]);
    let channel = connect(server.address, None).await.expect("a connection");
    let (sender, mut replies) = open_stream(channel.clone()).await;
    call(server.address, None).await.expect_err("one too many");
    server.wait_for_line("connection limit reached; closing new connections");
    sender.send(request(&["the second"])).await.expect("the stream is open");
    replies.message().await.expect("no error").expect("a reply");
    drop(sender);
    assert!(replies.message().await.expect("no error").is_none(), "the end");
    let accepted = async {
        while call(server.address, None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, accepted).await.expect("the first connection is idle now");
    drop(channel);
}

#[tokio::test]
async fn a_client_that_opens_connections_and_says_nothing_blocks_no_others() {
    const CONNECTIONS: usize = 32;
    let server = Server::start(Model::Small, &["--max-connections", "8"]);
    let idle: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(server.address).expect("a connection")).collect();
    let served = async {
        while call(server.address, None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SILENT_CLIENTS_TIMEOUT, served).await.expect("silent connections give way");
    drop(idle);
}

#[tokio::test]
async fn messages_that_never_end_leave_memory_for_others() {
    let limits =
        ["--receive-bytes", "1MiB", "--receive-bytes-per-connection", "512KiB", "--max-message-bytes", "512KiB"];
    let server = Server::start(Model::Small, &[&limits[..], &["--max-connections", "16"]].concat());
    let headers = http2::call_headers("/embedd.v1.EmbeddingService/Embed");
    let message = [&[0][..], &(500_u32 << 10).to_be_bytes(), &vec![0; 90 << 10]].concat();
    let unfinished = || {
        let mut connection = RawConnection::open(server.address);
        for stream in [1, 3] {
            let parts = message.chunks(15 << 10).map(|part| frame(http2::DATA, 0, stream, part));
            let frames = [frame(http2::HEADERS, http2::END_HEADERS, stream, &headers)].into_iter().chain(parts);
            // The server may disconnect a caller for which it has no memory.
            if !frames.into_iter().all(|frame| connection.try_send(&frame)) {
                break;
            }
        }
        connection
    };
    // Together twice the memory for messages.
    let connections: Vec<RawConnection> = (0..10).map(|_| unfinished()).collect();
    for _ in 0..50 {
        call(server.address, None).await.expect("a short text always finds memory");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(connections);
}

#[tokio::test]
async fn clients_that_never_finish_their_handshake_delay_no_others_and_are_disconnected() {
    // One after another, their ten-second timeouts would exceed the time limit of the test.
    const IDLE: usize = 100;
    let tls = TlsFiles::new();
    let server = Server::start(Model::Small, &tls.flags());
    let silent = |address| TcpStream::connect(address).expect("a connection");
    let half = |address| {
        let mut stream = silent(address);
        // The beginning of a record that is never completed.
        stream.write_all(&[22, 3, 1, 2, 0]).expect("sent");
        stream
    };
    let mut idle: Vec<TcpStream> = (0..IDLE).map(|_| silent(server.address)).collect();
    idle.extend([half(server.address), silent(server.admin_address)]);
    let other = call(server.address, Some(tls.servers.trusted()));
    timeout(PATIENCE, other).await.expect("no delay").expect("another client is served");
    for mut stream in idle {
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        // If the server speaks first, it sends its HTTP/2 settings before it closes.
        let closed = stream.read_to_end(&mut Vec::new());
        let reset = closed.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(closed.is_ok() || reset, "{closed:?}");
    }
}

#[tokio::test]
async fn metadata_beyond_the_limit_is_rejected_and_the_connection_stays_open() {
    let server = Server::start(Model::Small, &["--max-header-bytes", "4KiB"]);
    let channel = connect(server.address, None).await.expect("a connection");
    let mut client = EmbeddingServiceClient::new(channel);
    for (bytes, accepted) in [(3000, true), (5000, false), (3000, true)] {
        let mut request = with(None, GetModelRequest {});
        let filler: AsciiMetadataValue = "x".repeat(bytes).parse().expect("metadata");
        request.metadata_mut().insert("filler", filler);
        let reply = client.get_model(request).await;
        assert_eq!(reply.is_ok(), accepted, "{bytes} bytes: {reply:?}");
        if let Err(status) = reply {
            assert!([Code::Unknown, Code::Internal].contains(&status.code()), "{status}");
        }
    }
}

#[tokio::test]
async fn calls_beyond_the_stream_limit_wait_and_none_is_lost() {
    let server = Server::start(Model::Small, &["--max-concurrent-streams", "2", "--max-header-bytes", "8KiB"]);
    let mut client = server.client().await;
    // The reply comes after the server's settings, so the client knows the limit from then on.
    embed(&mut client, &["the first"]).await;
    let calls = (0..20).map(|_| {
        let mut client = client.clone();
        tokio::spawn(async move { embed(&mut client, &["a short text"]).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.expect("no call failed").embeddings.len(), 1);
    }
    let limits = client.get_model(GetModelRequest {}).await.expect("a model").into_inner().limits;
    let limits = limits.expect("limits");
    assert_eq!((limits.max_concurrent_streams, limits.max_header_bytes), (2, 8192));
    let windows_and_limits = [Some(128 << 10), Some(2), Some(8192)];
    assert_eq!(settings(server.address, &[4, 3, 6]), windows_and_limits, "the settings of HTTP/2");
}

#[tokio::test]
async fn get_model_returns_the_connection_limits() {
    let server = shared(Model::Small);
    let model = server.client().await.get_model(GetModelRequest {}).await.expect("a model").into_inner();
    let limits = model.limits.expect("limits");
    assert_eq!((limits.max_concurrent_streams, limits.max_header_bytes), (256, 16 << 10));
}

#[tokio::test]
async fn health_and_reflection_reject_requests_that_are_longer_than_any_name() {
    let server = Server::launch(Model::Small, &["--health-listen", "127.0.0.1:0", "--admin-token-file", "none"]);
    let probes = server.read_address();
    // The field number and the length take three of the 1024 bytes.
    let longest = "x".repeat(1021);
    let too_long = "x".repeat(1022);
    for listener in [server.address, server.admin_address, probes] {
        let mut health = HealthClient::new(connect(listener, None).await.expect("a connection"));
        health.check(HealthCheckRequest::default()).await.expect("an answer");
        let mut ask = async |service: &str| {
            let status =
                health.check(HealthCheckRequest { service: service.to_owned() }).await.expect_err("no service");
            status.code()
        };
        assert_eq!((ask(&longest).await, ask(&too_long).await), (Code::NotFound, Code::OutOfRange), "{listener}");
    }
    for listener in [server.address, server.admin_address] {
        let mut client = ServerReflectionClient::new(connect(listener, None).await.expect("a connection"));
        let mut ask = async |symbol: &str| {
            let message_request = Some(MessageRequest::FileContainingSymbol(symbol.to_owned()));
            let request = ServerReflectionRequest { host: String::new(), message_request };
            let replies = client.server_reflection_info(tokio_stream::once(request)).await.expect("a stream");
            let (found, error) = all(replies.into_inner()).await;
            (found.len(), error.map(|status| status.code()))
        };
        assert_eq!(ask("grpc.health.v1.Health").await, (1, None), "{listener}");
        assert_eq!(ask(&longest).await, (0, Some(Code::NotFound)), "{listener}");
        // The service ends a stream whose next message it cannot read.
        assert_eq!(ask(&too_long).await, (0, None), "{listener}");
    }
}

/// The values of the server's HTTP/2 settings with these numbers (RFC 9113, section 6.5).
fn settings(address: SocketAddr, numbers: &[u16]) -> Vec<Option<u32>> {
    let first = RawConnection::open(address).receive().expect("a frame");
    assert_eq!(first.kind, http2::SETTINGS, "a server begins with SETTINGS");
    let find = |number: &u16| {
        let setting = first.payload.chunks(6).find(|setting| setting[..2] == number.to_be_bytes())?;
        Some(u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]))
    };
    numbers.iter().map(find).collect()
}

#[test]
fn a_client_that_provokes_resets_is_disconnected() {
    let server = Server::launch(Model::Small, &["--health-listen", "127.0.0.1:0"]);
    let probes = server.read_address();
    for listener in [server.address, server.admin_address, probes] {
        let (resets, goaway) = provoke_resets(listener, 1025);
        assert!(resets <= 1024, "{resets} resets");
        assert_eq!(goaway, Some(http2::ENHANCE_YOUR_CALM), "the connection must end after 1025 faults");
    }
    settings(server.address, &[3])[0].expect("other clients are served");
}

/// Commits faults that HTTP/2 answers with one reset each: DATA on streams that a later stream has closed.
fn provoke_resets(address: SocketAddr, faults: u32) -> (usize, Option<u32>) {
    let mut connection = RawConnection::open(address);
    let last = 2 * faults + 1;
    let headers = http2::call_headers("/grpc.health.v1.Health/Check");
    connection.send(&frame(http2::HEADERS, http2::END_HEADERS, last, &headers));
    let data: Vec<u8> = (1..last).step_by(2).flat_map(|stream| frame(http2::DATA, 0, stream, &[])).collect();
    connection.send(&data);
    answer(&mut connection)
}

#[test]
fn a_client_can_cancel_all_its_calls_at_once_but_no_more() {
    let server = Server::launch(Model::Small, &["--max-concurrent-streams", "256"]);
    let headers = http2::call_headers("/embedd.v1.EmbeddingService/Embed");
    let cancel = |calls: u32| {
        let mut connection = RawConnection::open(server.address);
        // Sent together, so that most calls are cancelled before the server has accepted them.
        let call = |stream| {
            let begin = frame(http2::HEADERS, http2::END_HEADERS, stream, &headers);
            [begin, frame(http2::RST_STREAM, 0, stream, &http2::CANCEL.to_be_bytes())].concat()
        };
        connection.send(&(1..2 * calls).step_by(2).flat_map(call).collect::<Vec<u8>>());
        answer(&mut connection).1
    };
    assert_eq!(cancel(256), None, "the connection stays open");
    assert_eq!(cancel(600), Some(http2::ENHANCE_YOUR_CALM), "CVE-2023-44487");
}

/// The number of resets that the server sends for the frames so far, and the error code with which it ended the
/// connection, if it did.
fn answer(connection: &mut RawConnection) -> (usize, Option<u32>) {
    // Frames are handled in order, so an answer to this one means that the connection is still open.
    connection.send(&frame(http2::PING, 0, 0, &[0; 8]));
    let mut resets = 0;
    while let Some(frame) = connection.receive() {
        match frame.kind {
            http2::RST_STREAM => resets += 1,
            http2::GOAWAY => return (resets, Some(frame.error_code())),
            http2::PING if frame.flags == http2::ACK => break,
            _ => {}
        }
    }
    (resets, None)
}
