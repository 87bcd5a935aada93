//! `EmbedStream`: replies in order, errors that do not end the stream, flow control, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use embedd_proto::{EmbedRequest, EmbedResponse};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request};
use tonic_types::{RpcStatusExt as _, pb};

use crate::support::models::Model;
use crate::support::server::{Server, embed, request, shared};
use crate::support::{all, bare};

async fn replies_to(
    server: &Server,
    requests: impl Stream<Item = EmbedRequest> + Send + 'static,
) -> (Vec<EmbedResponse>, Option<tonic::Status>) {
    all(server.client().await.embed_stream(requests).await.expect("a stream").into_inner()).await
}

#[tokio::test]
async fn replies_are_in_the_order_of_the_requests_and_have_the_vectors_of_embed() {
    let server = shared(Model::MiniLm);
    let texts: Vec<String> = (0..60).map(|index| format!("{index} {}", "word ".repeat((index * 37) % 120))).collect();
    let requests = texts.clone().into_iter().map(|text| request(&[&text]));
    let (replies, end) = replies_to(server, tokio_stream::iter(requests)).await;
    assert!(end.is_none(), "{end:?}");
    assert_eq!(replies.len(), texts.len());
    let mut client = server.client().await;
    for (text, reply) in texts.iter().zip(&replies) {
        assert_eq!((reply.embeddings.len(), &reply.error), (1, &None));
        let alone = &embed(&mut client, &[text]).await.embeddings[0];
        assert_eq!(reply.embeddings[0].token_count, alone.token_count, "{text}");
        assert!(embedd_model::accuracy::cosine(&reply.embeddings[0].values, &alone.values) > 0.999_999, "{text}");
    }
}

#[tokio::test]
async fn an_invalid_request_gets_an_error_and_the_stream_continues() {
    let server = shared(Model::MiniLm);
    let requests = [request(&["a"]), request(&[]), request(&["b"]), EmbedRequest { encoding: 9, ..request(&["c"]) }];
    let (replies, end) = replies_to(server, tokio_stream::iter(requests)).await;
    assert!(end.is_none(), "{end:?}");
    let codes: Vec<Option<i32>> = replies.iter().map(|reply| reply.error.as_ref().map(|error| error.code)).collect();
    let invalid = Some(Code::InvalidArgument as i32);
    assert_eq!(codes, [None, invalid, None, invalid]);
    let error: &pb::Status = replies[1].error.as_ref().expect("an error");
    let details = error.get_details_bad_request().expect("BadRequest details");
    assert_eq!(details.field_violations[0].field, "texts", "{}", error.message);
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_stream_after_earlier_replies() {
    let server = Server::start(Model::Small, &["--max-message-bytes", "1KiB", "--max-text-bytes", "1KiB"]);
    let large = "x".repeat(2000);
    assert!(request(&[&large]).encoded_len() > 1024);
    let (replies, end) =
        replies_to(&server, tokio_stream::iter([request(&["a"]), request(&[&large]), request(&["b"])])).await;
    assert_eq!((replies.len(), end.map(|status| status.code())), (1, Some(Code::OutOfRange)));
}

#[tokio::test]
async fn a_stream_without_requests_ends_without_replies() {
    let (replies, end) = replies_to(shared(Model::Small), tokio_stream::empty()).await;
    assert!(replies.is_empty() && end.is_none(), "{end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_stops_reading_requests_if_the_caller_reads_no_replies() {
    let server = shared(Model::Small);
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let requests = tokio_stream::iter(0..1_000_000).map(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        request(&["the same each time"])
    });
    let replies = server.client().await.embed_stream(requests).await.expect("a stream");
    let mut before = 0;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = sent.load(Ordering::Relaxed);
        if now == before {
            break;
        }
        before = now;
    }
    // Each request has about 25 bytes. HTTP/2's stream window holds a megabyte of them, and 32 are in progress.
    assert!(before < 200_000, "{before} requests were sent before the caller had to wait");
    drop(replies);
    embed(&mut server.client().await, &["the server still answers"]).await;
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline() {
    let mut call = Request::new(());
    call.set_timeout(Duration::from_millis(200));
    let method = "embedd.v1.EmbeddingService/EmbedStream";
    let status = bare::call_and_send_nothing(shared(Model::Small), method, call).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_unavailable_when_the_server_stops_and_no_reply_is_lost() {
    let server = Server::start(Model::Small, &["--shutdown-grace", "50ms"]);
    let (sender, requests) = mpsc::channel(10);
    let mut client = server.client().await;
    let mut replies = client.embed_stream(ReceiverStream::new(requests)).await.expect("a stream").into_inner();
    for _ in 0..5 {
        sender.send(request(&["a"])).await.expect("the stream is open");
        replies.message().await.expect("no error").expect("a reply");
    }
    server.signal("TERM");
    let status = replies.message().await.expect_err("the server stops");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(server.exit().await.code(), Some(0));
}
