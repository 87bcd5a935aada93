//! How many connections there may be, how long they stay, and what they may bring along.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use embedd::proto::embedding_service_client::EmbeddingServiceClient;
use embedd::proto::{EmbedRequest, GetModelRequest};
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Status};

use super::{call, connect, get_model, with};
use crate::support::authority::Authority;
use crate::support::models::Model;
use crate::support::server::{Server, embed, shared, temporary_folder};

/// Passes connections on, and counts them.
async fn counting_proxy(to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(to).await.expect("the server");
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    (address, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_end_at_their_age_and_no_call_that_was_taken_fails() {
    let server = Server::start(Model::MiniLm, &["--max-connection-age", "1s"]);
    let (address, connections) = counting_proxy(server.address).await;
    let channel = connect(address, None).await.expect("a connection");
    let until = Instant::now() + Duration::from_secs(5);
    let callers = (0..4).map(|_| {
        let mut client = EmbeddingServiceClient::new(channel.clone());
        tokio::spawn(async move {
            let mut calls = 0;
            while Instant::now() < until {
                match client.embed(short_request()).await {
                    Ok(_) => calls += 1,
                    Err(status) if was_not_taken(&status) => {}
                    Err(status) => panic!("{status:?}"),
                }
            }
            calls
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        assert!(caller.await.expect("no call failed") > 4);
    }
    let connections = connections.load(Ordering::Relaxed);
    assert!((3..=6).contains(&connections), "{connections} connections in 5 s");
}

fn short_request() -> EmbedRequest {
    EmbedRequest { texts: vec!["a short text".to_owned()], ..Default::default() }
}

/// Whether tonic gave the call back because the connection ended before the server took it: before it was sent, or with a
/// GOAWAY that names an earlier call as the last one taken (RFC 9113, 6.8). Other gRPC libraries repeat such a call by
/// themselves.
fn was_not_taken(status: &Status) -> bool {
    let why = format!("{status:?}");
    let unsent = status.code() == Code::Cancelled && why.contains("connection closed");
    unsent || status.code() == Code::Internal && why.contains("GoAway(b\"\", NO_ERROR, Remote)")
}

/// Seconds of work.
fn long_request() -> EmbedRequest {
    EmbedRequest { texts: vec!["word ".repeat(250); 150], ..Default::default() }
}

#[tokio::test]
async fn a_call_under_way_has_its_grace_when_the_connection_has_reached_its_age() {
    let server = Server::start(Model::MiniLm, &["--max-connection-age", "1s"]);
    let mut client = server.client().await;
    let begun = Instant::now();
    client.embed(long_request()).await.expect("it ends within the grace");
    assert!(begun.elapsed() > Duration::from_millis(1200), "it outlasted the age: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_call_that_outlasts_the_grace_is_cut_off_alone() {
    let server = Server::start(Model::Mpnet, &["--max-connection-age", "1s", "--max-connection-age-grace", "100ms"]);
    let mut client = server.client().await;
    let begun = Instant::now();
    client.embed(long_request()).await.expect_err("cut off");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    call(server.address, None).await.expect("others come in");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_there_is_room_again_when_one_goes() {
    let server = Server::start(Model::MiniLm, &["--max-connections", "1"]);
    let only = connect(server.address, None).await.expect("a connection");
    get_model(only.clone(), None).await.expect("the only one");
    call(server.address, None).await.expect_err("no room");
    server.wait_for_line("no more connections are taken");
    get_model(only.clone(), None).await.expect("the only one goes on");
    drop(only);
    let until = Instant::now() + Duration::from_secs(5);
    while let Err(error) = call(server.address, None).await {
        assert!(Instant::now() < until, "still no room: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_client_that_never_finishes_its_handshake_holds_up_nobody_and_is_shown_out() {
    let (_folder, folder) = temporary_folder();
    let authority = Authority::new("servers");
    let [certificate, key] = authority.sign().write(&folder, "server");
    let server = Server::start(Model::MiniLm, &["--tls-certificate", &certificate, "--tls-key", &key]);
    let silent = |address| TcpStream::connect(address).expect("a connection");
    let half = |address| {
        let mut stream = silent(address);
        // The beginning of a record that never comes.
        stream.write_all(&[22, 3, 1, 2, 0]).expect("sent");
        stream
    };
    let mut idlers: Vec<TcpStream> = (0..20).map(|_| silent(server.address)).collect();
    idlers.extend([half(server.address), silent(server.admin_address)]);
    let begun = Instant::now();
    call(server.address, Some(authority.trusted())).await.expect("others come in");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for mut idler in idlers {
        idler.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
        // What the server says before it closes: its HTTP/2 settings, where it speaks first.
        let closed = idler.read_to_end(&mut Vec::new());
        let refused = closed.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(closed.is_ok() || refused, "{closed:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn metadata_beyond_the_limit_is_refused_and_the_connection_goes_on() {
    let server = Server::start(Model::MiniLm, &["--max-header-bytes", "4KiB"]);
    let channel = connect(server.address, None).await.expect("a connection");
    let mut client = EmbeddingServiceClient::new(channel);
    for (bytes, fine) in [(3000, true), (5000, false), (3000, true)] {
        let mut request = with(None, GetModelRequest {});
        let filler: AsciiMetadataValue = "x".repeat(bytes).parse().expect("metadata");
        request.metadata_mut().insert("filler", filler);
        let answer = client.get_model(request).await;
        assert_eq!(answer.is_ok(), fine, "{bytes} bytes: {answer:?}");
        if let Err(status) = answer {
            assert!([Code::Unknown, Code::Internal].contains(&status.code()), "{status}");
        }
    }
}

#[tokio::test]
async fn calls_beyond_the_limit_of_streams_wait_and_none_is_lost() {
    let server = Server::start(Model::MiniLm, &["--max-concurrent-streams", "2", "--max-header-bytes", "8KiB"]);
    let mut client = server.client().await;
    // Its answer comes after the server's settings: from then on the client knows the limit.
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
    assert_eq!(settings(server.address, &[3, 6]), [Some(2), Some(8192)], "what HTTP/2 clients are told");
}

#[tokio::test]
async fn the_limits_are_told() {
    let server = shared(Model::MiniLm);
    let model = server.client().await.get_model(GetModelRequest {}).await.expect("a model").into_inner();
    let limits = model.limits.expect("limits");
    assert_eq!((limits.max_concurrent_streams, limits.max_header_bytes), (256, 16 << 10));
}

/// The values of the server's HTTP/2 settings of these numbers (RFC 9113, section 6.5).
fn settings(address: SocketAddr, numbers: &[u16]) -> Vec<Option<u32>> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    // The preface, and a SETTINGS frame without settings.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("sent");
    let mut head = [0; 9];
    stream.read_exact(&mut head).expect("the head of a frame");
    assert_eq!(head[3], 4, "a server begins with SETTINGS");
    let mut body = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    stream.read_exact(&mut body).expect("settings");
    let find = |number: &u16| {
        let setting = body.chunks(6).find(|setting| setting[..2] == number.to_be_bytes())?;
        Some(u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]))
    };
    numbers.iter().map(find).collect()
}
