//! The cache: embeddings are not computed twice, and never confused with others.

use std::time::Duration;

use embedd_proto::{EmbedRequest, Embedding, Encoding, Truncation};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::busy::Busy;
use crate::support::models::Model;
use crate::support::server::{Client, Server};
use crate::support::{PATIENCE, norm};

const CACHE: [&str; 2] = ["--cache-bytes", "64MiB"];
/// A cache, and a session pool that long texts keep busy.
const CACHE_AND_ONE_SESSION: [&str; 6] = ["--cache-bytes", "64MiB", "--sessions", "1", "--threads", "1"];

async fn one(client: &mut Client, text: &str, options: EmbedRequest) -> Embedding {
    let request = EmbedRequest { texts: vec![text.to_owned()], ..options };
    client.embed(request).await.expect("an embedding").into_inner().embeddings.remove(0)
}

fn plain() -> EmbedRequest {
    EmbedRequest::default()
}

#[tokio::test]
async fn a_text_is_computed_once_for_all_options_that_only_change_its_output() {
    let server = Server::start(Model::Small, &CACHE);
    let mut client = server.client().await;
    let first = one(&mut client, "a text", plain()).await;
    assert!(!first.cached);
    let again = one(&mut client, "a text", plain()).await;
    assert_eq!(again, Embedding { cached: true, ..first.clone() });
    let packed = one(&mut client, "a text", EmbedRequest { encoding: Encoding::Bytes.into(), ..plain() }).await;
    assert!(packed.cached && packed.packed.len() == 4 * first.values.len());
    let raw = one(&mut client, "a text", EmbedRequest { normalize: Some(false), ..plain() }).await;
    assert!(raw.cached && (norm(&raw.values) - 1.0).abs() > 0.01);
    let cut = one(&mut client, "a text", EmbedRequest { dimensions: Some(7), ..plain() }).await;
    assert!(cut.cached && cut.values.len() == 7 && (norm(&cut.values) - 1.0).abs() < 1e-6);
    let other = one(&mut client, "a text ", plain()).await;
    assert!(!other.cached, "another text, although its tokens are the same");
}

#[tokio::test]
async fn texts_that_are_truncated_differently_have_different_entries() {
    let server = Server::start(Model::Small, &CACHE);
    let mut client = server.client().await;
    let long = format!("{} vin", "bal ".repeat(400));
    let with = |truncation: Truncation| EmbedRequest { truncation: truncation.into(), ..plain() };
    let end = one(&mut client, &long, with(Truncation::End)).await;
    let start = one(&mut client, &long, with(Truncation::Start)).await;
    assert!(!end.cached && !start.cached && end.truncated && start.truncated && end.values != start.values);
    let refused = client.embed(EmbedRequest { texts: vec![long.clone()], ..with(Truncation::Reject) }).await;
    assert_eq!(refused.expect_err("too long").code(), tonic::Code::InvalidArgument);
    let again = one(&mut client, &long, with(Truncation::Start)).await;
    assert_eq!(again, Embedding { cached: true, ..start });
}

#[tokio::test]
async fn requests_that_skip_the_cache_neither_read_nor_fill_it() {
    let server = Server::start(Model::Small, &CACHE);
    let mut client = server.client().await;
    let skip = || EmbedRequest { skip_cache: true, ..plain() };
    assert!(!one(&mut client, "skipped", skip()).await.cached);
    assert!(!one(&mut client, "skipped", plain()).await.cached, "it was not stored");
    assert!(one(&mut client, "skipped", plain()).await.cached);
    assert!(!one(&mut client, "skipped", skip()).await.cached);
}

#[tokio::test]
async fn a_request_uses_cached_embeddings_and_computes_the_others() {
    let server = Server::start(Model::Small, &CACHE);
    let mut client = server.client().await;
    one(&mut client, "known", plain()).await;
    let texts = ["new", "known", "newer", "new"].map(str::to_owned).to_vec();
    let response = client.embed(EmbedRequest { texts: texts.clone(), ..plain() }).await.expect("it").into_inner();
    let cached: Vec<bool> = response.embeddings.iter().map(|embedding| embedding.cached).collect();
    assert!(!cached[2] && cached[1], "{cached:?}");
    assert_eq!(
        [cached[0], cached[3]].iter().filter(|cached| !**cached).count(),
        1,
        "a text that occurs twice is computed once"
    );
    for (text, found) in texts.iter().zip(&response.embeddings) {
        let alone = one(&mut client, text, plain()).await;
        assert_eq!(alone.values, found.values, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_concurrent_requests_for_a_new_text_cause_one_inference() {
    let server = Server::start(Model::MiniLm, &CACHE_AND_ONE_SESSION);
    let client = server.client().await;
    // The first of the hundred is still queued when the others arrive.
    let busy = Busy::keep(&server, &client).await;
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let mut client = client.clone();
        calls.spawn(async move { one(&mut client, "the text of all requests", plain()).await });
    }
    let found = calls.join_all().await;
    busy.end().await;
    assert_eq!(found.iter().filter(|embedding| !embedding.cached).count(), 1);
    assert!(found.iter().all(|embedding| embedding.values == found[0].values));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cache_hits_do_not_wait_in_the_queue() {
    let server = Server::start(Model::MiniLm, &CACHE_AND_ONE_SESSION);
    let mut client = server.client().await;
    one(&mut client, "known", plain()).await;
    let busy = Busy::keep(&server, &client).await;
    for (text, waits) in [("known", false), ("new", true)] {
        let request = EmbedRequest { texts: vec![text.to_owned()], ..plain() };
        let timings = client.embed(request).await.expect("an embedding").into_inner().timings.expect("timings");
        let queue = timings.queue.expect("a duration");
        assert_eq!((queue.seconds, queue.nanos) != (0, 0), waits, "{text}: {queue:?}");
    }
    busy.end().await;
}

#[tokio::test]
async fn entries_expire_and_the_cache_can_be_turned_off() {
    let server = Server::start(Model::Small, &["--cache-bytes", "1MiB", "--cache-ttl", "300ms"]);
    let mut client = server.client().await;
    one(&mut client, "known", plain()).await;
    let expired = async {
        while one(&mut client, "known", plain()).await.cached {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, expired).await.expect("the entry expires although it is used");
    let server = Server::start(Model::Small, &["--cache-bytes", "0"]);
    let mut client = server.client().await;
    for _ in 0..2 {
        assert!(!one(&mut client, "known", plain()).await.cached);
    }
}
