//! Request ids: in replies, in the details of errors, in log lines.

use embedd_client::Client;
use embedd_proto::tei::EmbedRequest as TeiRequest;
use embedd_proto::tei::embed_client::EmbedClient;
use embedd_proto::{ClearCacheRequest, GetModelRequest};
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::support::http::{get, get_with};
use crate::support::models::Model;
use crate::support::server::{Server, request as texts, shared, temporary_folder};
use crate::support::tls::write;

fn named<T>(id: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-request-id", id.parse().expect("metadata"));
    request
}

fn id_of(metadata: &MetadataMap) -> &str {
    metadata.get("x-request-id").expect("an id").to_str().expect("text")
}

/// Calls a method that does not exist.
async fn call_unknown_method(server: &Server, id: &str) -> Status {
    let mut grpc = Grpc::new(server.channel().await);
    grpc.ready().await.expect("a connection");
    let codec = ProstCodec::<GetModelRequest, GetModelRequest>::default();
    let path = "/nobody.Knows/Me".try_into().expect("a path");
    grpc.unary(named(id, GetModelRequest {}), path, codec).await.expect_err("an unknown method")
}

#[tokio::test]
async fn log_lines_have_the_request_id_of_the_caller_or_a_generated_one() {
    let server = Server::start(Model::Small, &["--log-level", "info,embedd=debug"]);
    let mut client = server.client().await;
    let unnamed = Request::new(texts(&["a text"]));
    for (request, given) in [(named("mine-1", texts(&["a text"])), "mine-1"), (unnamed, "")] {
        let reply = client.embed(request).await.expect("embeddings");
        let id = id_of(reply.metadata());
        assert!(id == given || given.is_empty() && id.len() == 32, "{id}");
        let line = server.wait_for_line("call");
        assert_eq!((&line["request_id"], &line["code"]), (&id.into(), &"OK".into()), "{line}");
        assert_eq!(line["method"], "embedd.v1.EmbeddingService/Embed");
    }
    let reply = client.embed(named("not sane", texts(&["a text"]))).await.expect("embeddings");
    assert_eq!(id_of(reply.metadata()).len(), 32);
    let stream = named("mine-2", tokio_stream::iter([texts(&["a text"])]));
    assert_eq!(id_of(client.embed_stream(stream).await.expect("a stream").metadata()), "mine-2");
    let reply = server.admin().await.clear_cache(named("mine-3", ClearCacheRequest {})).await.expect("cleared");
    assert_eq!(id_of(reply.metadata()), "mine-3");
    assert_eq!(server.wait_for_line("cache cleared")["span"]["request_id"], "mine-3");

    let answer = get_with(server.http(), "/nothing", &[("x-request-id", "mine-4")]);
    assert_eq!((answer.status, answer.request_id()), (404, "mine-4"));
    let line = server.wait_for_line("request");
    assert_eq!((&line["request_id"], &line["status"]), (&"mine-4".into(), &404.into()), "{line}");
    assert_eq!(get(server.http(), "/healthz").request_id().len(), 32);
}

#[tokio::test]
async fn all_errors_have_the_request_id_even_those_of_calls_that_are_rejected_early() {
    let (_folder, folder) = temporary_folder();
    let server = shared(Model::Small);
    let wrong = server.client().await.embed(named("wrong", texts(&[]))).await.expect_err("no texts");
    assert_eq!(id_of(wrong.metadata()), "wrong");
    assert_eq!(wrong.get_details_request_info().expect("the id").request_id, "wrong");
    assert_eq!(wrong.get_details_bad_request().expect("the field").field_violations[0].field, "texts");
    let unknown = call_unknown_method(server, "unknown").await;
    assert_eq!((unknown.code(), id_of(unknown.metadata())), (Code::Unimplemented, "unknown"));

    let mut tei = EmbedClient::connect(server.url()).await.expect("a connection");
    let too_long = TeiRequest { inputs: "word ".repeat(600), ..Default::default() };
    let mut replies = tei.embed_stream(named("ended", tokio_stream::iter([too_long]))).await.expect("a stream");
    let ended = replies.get_mut().message().await.expect_err("too many tokens");
    assert_eq!(id_of(ended.metadata()), "ended");
    assert_eq!(ended.get_details_request_info().expect("the id").request_id, "ended");

    let client = Client::connect(&server.url()).await.expect("a client");
    let error = client.embed(["x".repeat(100_000)]).await.expect_err("too large");
    let id = error.request_id().expect("an id");
    assert!(id.len() == 32 && error.to_string().ends_with(&format!("[request {id}]")), "{error}");

    let closed = Server::start(Model::Small, &["--token-file", &write(&folder, "tokens", "secret")]);
    let refused = closed.client().await.embed(named("refused", texts(&["a text"]))).await.expect_err("no token");
    assert_eq!((refused.code(), id_of(refused.metadata())), (Code::Unauthenticated, "refused"));
}
