//! A caller's deadline is kept, and work that nobody waits for is not done.

use std::time::{Duration, Instant};

use embedd_proto::EmbedRequest;
use tonic::{Code, Request};

use crate::support::models::Model;
use crate::support::server::{Server, embed};

/// About two seconds of work for one session.
fn heavy() -> EmbedRequest {
    EmbedRequest { texts: vec!["word ".repeat(250); 100], ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_call_gets_deadline_exceeded() {
    let server = Server::start(Model::MiniLm, &[]);
    let mut client = server.client().await;
    let mut from_server = 0;
    for _ in 0..20 {
        let mut request = Request::new(heavy());
        request.set_timeout(Duration::from_millis(100));
        let status = client.embed(request).await.expect_err("too late");
        // The client gives up by itself, too, with another code, two milliseconds later.
        if status.code() == Code::DeadlineExceeded {
            assert!(status.message().contains("grpc-timeout"), "{status}");
            from_server += 1;
        } else {
            assert_eq!(status.message(), "Timeout expired", "{status}");
        }
    }
    assert!(from_server >= 5, "{from_server} of 20 answers came from the server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_work_of_calls_that_were_given_up_is_not_done() {
    let server = Server::start(Model::MiniLm, &[]);
    let mut client = server.client().await;
    let started = Instant::now();
    client.embed(heavy()).await.expect("embeddings");
    let whole = started.elapsed();
    let started = Instant::now();
    for _ in 0..30 {
        let patience = Duration::from_millis(5);
        tokio::time::timeout(patience, client.embed(heavy())).await.expect_err("it takes longer than that");
    }
    embed(&mut client, &["what comes after"]).await;
    let took = started.elapsed();
    assert!(took < whole * 10, "30 calls given up, and one more, took {took:?}; one call takes {whole:?}");
}
