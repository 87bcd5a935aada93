//! Startup, health and shutdown.

use std::net::TcpStream;

use embedd_proto::GetModelRequest;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::exposition::Exposition;
use crate::support::loading::Loading;
use crate::support::models::Model;
use crate::support::server::{Server, embed, long_texts, shared};

const SERVICES: [&str; 2] = ["", "embedd.v1.EmbeddingService"];

async fn health_client(server: &Server) -> HealthClient<Channel> {
    HealthClient::new(server.channel().await)
}

async fn health(server: &Server, service: &str) -> ServingStatus {
    let mut client = health_client(server).await;
    let request = HealthCheckRequest { service: service.to_owned() };
    client.check(request).await.expect("a status").into_inner().status()
}

#[tokio::test]
async fn calls_are_unavailable_and_health_is_not_serving_until_the_model_is_loaded() {
    let loading = Loading::start(Model::Small, &[]);
    for service in SERVICES {
        assert_eq!(health(&loading.server, service).await, ServingStatus::NotServing);
    }
    let mut client = loading.server.client().await;
    let status = client.get_model(GetModelRequest {}).await.expect_err("no model yet");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    loading.finish();
    for service in SERVICES {
        assert_eq!(health(&loading.server, service).await, ServingStatus::Serving);
    }
    embed(&mut client, &["ready"]).await;
}

#[tokio::test]
async fn health_does_not_know_other_services() {
    let server = shared(Model::Small);
    let mut client = health_client(server).await;
    let status = client.check(HealthCheckRequest { service: "other".to_owned() }).await.expect_err("unknown");
    assert_eq!(status.code(), Code::NotFound);
}

/// A server with a single session of one thread.
fn start(model: Model, flags: &[&str]) -> Server {
    Server::start(model, &[&["--sessions", "1", "--threads", "1"], flags].concat())
}

fn a_batch_runs(metrics: &Exposition) -> bool {
    metrics.value("embedd_sessions_busy", &[]) == 1.0
}

#[tokio::test]
async fn on_sigterm_and_sigint_the_server_answers_accepted_calls_and_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let server = start(Model::MiniLm, &["--shutdown-grace", "300ms", "--drain-timeout", "10m"]);
        let mut client = server.client().await;
        let call = tokio::spawn(async move { client.embed(long_texts(40)).await });
        server.until("the call is in progress", a_batch_runs).await;
        server.signal(signal);
        server.wait_for_line("stopping: health is NOT_SERVING");
        for service in SERVICES {
            assert_eq!(health(&server, service).await, ServingStatus::NotServing, "during the grace");
        }
        let response = call.await.expect("no panic").expect("an accepted call is answered").into_inner();
        assert_eq!(response.embeddings.len(), 40);
        assert_eq!(server.exit().await.code(), Some(0), "SIG{signal}");
    }
}

#[tokio::test]
async fn a_silent_connection_does_not_count_as_a_call() {
    let server = start(Model::Small, &["--shutdown-grace", "0s", "--drain-timeout", "1s"]);
    let _silent = TcpStream::connect(server.address).expect("a connection");
    let _client = server.client().await;
    server.signal("TERM");
    // Blocks the only thread of this test, so that the client does not respond, either.
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test]
async fn calls_that_exceed_the_drain_timeout_are_cut_off_and_the_exit_code_is_1() {
    let server = start(Model::MiniLm, &["--shutdown-grace", "0s", "--drain-timeout", "200ms"]);
    let client = server.client().await;
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        let mut client = client.clone();
        calls.spawn(async move { client.embed(long_texts(256)).await });
    }
    server.until("the calls are in progress", a_batch_runs).await;
    server.signal("TERM");
    assert_eq!(server.exit().await.code(), Some(1));
    let replies = calls.join_all().await;
    assert!(replies.iter().any(Result::is_err), "not all calls were answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drain_does_not_wait_for_watchers_of_health() {
    // The drain timeout is longer than the test waits.
    let server = start(Model::Small, &["--shutdown-grace", "50ms", "--drain-timeout", "1h"]);
    let mut client = health_client(&server).await;
    let mut watch = client.watch(HealthCheckRequest::default()).await.expect("a stream").into_inner();
    assert_eq!(watch.message().await.expect("a message").expect("a status").status(), ServingStatus::Serving);
    server.signal("TERM");
    assert_eq!(watch.message().await.expect("a message").expect("a status").status(), ServingStatus::NotServing);
    assert_eq!(server.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_the_server_immediately() {
    let server = start(Model::Small, &["--shutdown-grace", "10m"]);
    server.signal("TERM");
    server.wait_for_line("stopping: health is NOT_SERVING");
    server.signal("TERM");
    assert_eq!(server.exit().await.code(), Some(1));
}

#[tokio::test]
async fn a_signal_during_loading_ends_the_server_with_0() {
    let loading = Loading::start(Model::Small, &[]);
    loading.server.signal("TERM");
    assert_eq!(loading.server.exit().await.code(), Some(0));
}
