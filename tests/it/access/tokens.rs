//! Bearer tokens on both listeners.

use std::net::SocketAddr;
use std::process::Command;

use embedd_proto::admin_service_client::AdminServiceClient;
use embedd_proto::embedding_service_client::EmbeddingServiceClient;
use embedd_proto::{EmbedRequest, GetStatsRequest};
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_types::StatusExt as _;

use super::{NOT_RELOADED, RELOADED, connect, get_model, health, with};
use crate::support::grpcurl::grpcurl;
use crate::support::models::Model;
use crate::support::server::{Server, command, temporary_folder};
use crate::support::tls::write;

#[tokio::test]
async fn the_service_accepts_the_tokens_that_are_currently_in_its_file() {
    let (_folder, folder) = temporary_folder();
    let file = write(&folder, "tokens", "# two callers\nfirst-token\nsecond-token\n");
    let server = Server::start(Model::Small, &["--token-file", &file]);
    let channel = connect(server.address, None).await.expect("a connection");
    let call = async |authorization| get_model(channel.clone(), authorization).await;

    call(Some("Bearer first-token")).await.expect("a token");
    call(Some("Bearer second-token")).await.expect("another token");
    for authorization in [None, Some("Bearer third-token"), Some("Bearer first"), Some("Basic first-token")] {
        let status = call(authorization).await.expect_err("no token");
        assert_eq!(status.code(), Code::Unauthenticated, "{authorization:?}: {status}");
    }
    assert_eq!(health(channel.clone()).await.expect("health needs no token"), ServingStatus::Serving);

    write(&folder, "tokens", "third-token\n");
    server.wait_for_line(RELOADED);
    call(Some("Bearer third-token")).await.expect("the new token");
    assert_eq!(call(Some("Bearer first-token")).await.expect_err("an old token").code(), Code::Unauthenticated);

    write(&folder, "tokens", "# none\n");
    server.wait_for_line(NOT_RELOADED);
    call(Some("Bearer third-token")).await.expect("the previous token is still valid");
}

#[tokio::test]
async fn tokens_have_their_own_quotas_and_with_a_cache_scope_their_own_entries() {
    let (_folder, folder) = temporary_folder();
    let file = write(&folder, "tokens", "limited texts_per_second=2\nother\n");
    let server = Server::start(Model::Small, &["--token-file", &file, "--cache-scope", "caller"]);
    let channel = connect(server.address, None).await.expect("a connection");
    let embed = async |token: &str, texts: usize| {
        let request = EmbedRequest { texts: vec!["the same text".to_owned(); texts], ..EmbedRequest::default() };
        let mut client = EmbeddingServiceClient::new(channel.clone());
        let response = client.embed(with(Some(&format!("Bearer {token}")), request)).await?;
        Ok::<_, Status>(response.into_inner().embeddings[0].cached)
    };
    assert!(!embed("limited", 1).await.expect("an embedding"));
    assert!(!embed("other", 1).await.expect("an embedding"), "the other caller's entry is not visible");
    assert!(embed("other", 1).await.expect("an embedding"));

    assert!(embed("limited", 256).await.expect("a request may exceed the rate"));
    let status = embed("limited", 1).await.expect_err("two minutes' texts were used");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("texts_per_second=2"), "{status}");
    assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()), "{status}");
    embed("other", 256).await.expect("it has no quota");
}

#[test]
fn reflection_needs_a_token() {
    let (_folder, folder) = temporary_folder();
    let file = write(&folder, "tokens", "the-token\n");
    let server = Server::start(Model::Small, &["--token-file", &file]);
    let list = |header: &[&str]| {
        let mut command = Command::new(grpcurl());
        let command = command.args(["-plaintext", "-max-time", "600"]).args(header);
        let output = command.args([server.address.to_string().as_str(), "list"]).output().expect("grpcurl runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (listed, text) = list(&["-H", "authorization: Bearer the-token"]);
    assert!(listed, "{text}");
    let (listed, text) = list(&[]);
    assert!(!listed && text.contains("missing token"), "{text}");
}

#[tokio::test]
async fn the_admin_service_listens_beyond_loopback_only_with_authentication() {
    let output = command().args(["serve", "--admin-listen", "0.0.0.0:0"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(text.contains("admin-listen") && text.contains("admin-token-file"), "{text}");

    let (_folder, folder) = temporary_folder();
    let file = write(&folder, "tokens", "admin-token\n");
    let server = Server::start(Model::Small, &["--admin-listen", "0.0.0.0:0", "--admin-token-file", &file]);
    assert!(server.admin_address.ip().is_unspecified());
    let admin: SocketAddr = ([127, 0, 0, 1], server.admin_address.port()).into();
    let stats = async |authorization| {
        let mut client = AdminServiceClient::new(connect(admin, None).await.expect("a connection"));
        client
            .get_stats(with(authorization, GetStatsRequest {}))
            .await
            .map_or_else(|status: Status| status.code(), |_| Code::Ok)
    };
    assert_eq!(stats(None).await, Code::Unauthenticated);
    assert_ne!(stats(Some("Bearer admin-token")).await, Code::Unauthenticated);
    let service = connect(server.address, None).await.expect("a connection");
    get_model(service, None).await.expect("the service itself needs no token");
}
