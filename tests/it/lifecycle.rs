//! Start, health, stop.

use std::time::{Duration, Instant};

use embedd_proto::{EmbedRequest, GetModelRequest};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::models::Model;
use crate::support::server::{Server, embed, shared};

const SERVICES: [&str; 2] = ["", "embedd.v1.EmbeddingService"];

async fn health_client(server: &Server) -> HealthClient<Channel> {
    let address = format!("http://{}", server.address);
    let channel = Endpoint::from_shared(address).expect("an address").connect().await.expect("a connection");
    HealthClient::new(channel)
}

async fn health(server: &Server, service: &str) -> ServingStatus {
    let mut client = health_client(server).await;
    let request = HealthCheckRequest { service: service.to_owned() };
    client.check(request).await.expect("a status").into_inner().status()
}

#[tokio::test]
async fn health_and_requests_tell_that_the_model_is_loading_until_it_answers() {
    let _bundle = Model::Mpnet.bundle();
    let server = Server::launch(Model::Mpnet, &[]);
    for service in SERVICES {
        assert_eq!(health(&server, service).await, ServingStatus::NotServing);
    }
    let mut client = server.client().await;
    let status = client.get_model(GetModelRequest {}).await.expect_err("no model yet");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    server.wait_for_line("ready");
    for service in SERVICES {
        assert_eq!(health(&server, service).await, ServingStatus::Serving);
    }
    embed(&mut client, &["ready"]).await;
}

#[tokio::test]
async fn health_knows_only_the_services_that_there_are() {
    let server = shared(Model::MiniLm);
    let mut client = health_client(&server).await;
    let status = client.check(HealthCheckRequest { service: "other".to_owned() }).await.expect_err("unknown");
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn sigterm_and_sigint_drain_and_exit_with_0_and_lose_nothing() {
    for signal in ["TERM", "INT"] {
        let server = Server::start(Model::MiniLm, &["--shutdown-grace", "300ms"]);
        let mut client = server.client().await;
        // About a second of work, which is under way when the signal comes.
        let texts = vec!["word ".repeat(250); 40];
        let call = tokio::spawn(async move { client.embed(EmbedRequest { texts, ..Default::default() }).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.signal(signal);
        server.wait_for_line("stopping: health is NOT_SERVING");
        for service in SERVICES {
            assert_eq!(health(&server, service).await, ServingStatus::NotServing, "during the grace");
        }
        let response = call.await.expect("no panic").expect("an accepted request is answered").into_inner();
        assert_eq!(response.embeddings.len(), 40);
        assert_eq!(server.wait().code(), Some(0), "SIG{signal}");
    }
}

#[tokio::test]
async fn a_connection_that_says_nothing_does_not_count_as_a_request() {
    let server = Server::start(Model::MiniLm, &["--shutdown-grace", "0s", "--drain-timeout", "1s"]);
    let _silent = std::net::TcpStream::connect(server.address).expect("a connection");
    let _client = server.client().await;
    server.signal("TERM");
    // Blocks this test's only thread, and so keeps the client from answering.
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test]
async fn requests_that_outlast_the_drain_are_told_and_exit_with_1() {
    let server = Server::start(Model::Mpnet, &["--shutdown-grace", "0s", "--drain-timeout", "200ms"]);
    let mut client = server.client().await;
    let texts = vec!["word ".repeat(380); 100];
    let call = tokio::spawn(async move { client.embed(EmbedRequest { texts, ..Default::default() }).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.signal("TERM");
    call.await.expect("no panic").expect_err("cut off");
    assert_eq!(server.wait().code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_watch_health_do_not_hold_up_the_drain() {
    let server = Server::start(Model::MiniLm, &["--shutdown-grace", "50ms"]);
    let mut client = health_client(&server).await;
    let mut watch = client.watch(HealthCheckRequest::default()).await.expect("a stream").into_inner();
    assert_eq!(watch.message().await.expect("a message").expect("a status").status(), ServingStatus::Serving);
    let told = Instant::now();
    server.signal("TERM");
    assert_eq!(watch.message().await.expect("a message").expect("a status").status(), ServingStatus::NotServing);
    assert_eq!(server.wait().code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(20), "the drain's time-out is 25 s");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let server = Server::start(Model::MiniLm, &["--shutdown-grace", "60s"]);
    server.signal("TERM");
    server.wait_for_line("stopping: health is NOT_SERVING");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(1));
}

#[tokio::test]
async fn a_signal_while_loading_ends_with_0() {
    let server = Server::launch(Model::Mpnet, &[]);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}
