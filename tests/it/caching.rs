//! Embeddings that were computed before are not computed again, and are never those of something else.

use std::time::Duration;

use embedd_proto::{EmbedRequest, Embedding, Encoding, Truncation};
use tokio::task::JoinSet;

use crate::support::models::Model;
use crate::support::norm;
use crate::support::server::{Client, Server};

const CACHE: [&str; 2] = ["--cache-bytes", "64MiB"];

async fn one(client: &mut Client, text: &str, options: EmbedRequest) -> Embedding {
    let request = EmbedRequest { texts: vec![text.to_owned()], ..options };
    client.embed(request).await.expect("an embedding").into_inner().embeddings.remove(0)
}

fn plain() -> EmbedRequest {
    EmbedRequest::default()
}

#[tokio::test]
async fn a_text_is_computed_once_and_its_vector_serves_every_option_that_finishes_it() {
    let server = Server::start(Model::MiniLm, &CACHE);
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
    assert!(!other.cached, "another text, even where its tokens are the same");
}

#[tokio::test]
async fn what_is_computed_differently_has_an_entry_of_its_own() {
    let server = Server::start(Model::MiniLm, &CACHE);
    let mut client = server.client().await;
    let long = format!("{} end", "start ".repeat(400));
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
async fn who_skips_the_cache_neither_reads_nor_fills_it() {
    let server = Server::start(Model::MiniLm, &CACHE);
    let mut client = server.client().await;
    let skip = || EmbedRequest { skip_cache: true, ..plain() };
    assert!(!one(&mut client, "skipped", skip()).await.cached);
    assert!(!one(&mut client, "skipped", plain()).await.cached, "it was not kept");
    assert!(one(&mut client, "skipped", plain()).await.cached);
    assert!(!one(&mut client, "skipped", skip()).await.cached);
}

#[tokio::test]
async fn a_request_takes_what_there_is_and_computes_the_rest() {
    let server = Server::start(Model::MiniLm, &CACHE);
    let mut client = server.client().await;
    one(&mut client, "known", plain()).await;
    let texts = ["new", "known", "newer", "new"].map(str::to_owned).to_vec();
    let response = client.embed(EmbedRequest { texts: texts.clone(), ..plain() }).await.expect("it").into_inner();
    let cached: Vec<bool> = response.embeddings.iter().map(|embedding| embedding.cached).collect();
    assert!(!cached[2] && cached[1], "{cached:?}");
    assert_eq!([cached[0], cached[3]].iter().filter(|cached| !**cached).count(), 1, "twice the same is computed once");
    for (text, found) in texts.iter().zip(&response.embeddings) {
        let alone = one(&mut client, text, plain()).await;
        assert_eq!(alone.values, found.values, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_who_ask_for_a_new_text_at_once_make_one_inference() {
    let server = Server::start(Model::MiniLm, &CACHE);
    let client = server.client().await;
    // It keeps the session busy while the hundred come.
    let mut other = client.clone();
    let busy = tokio::spawn(async move {
        let texts = vec!["word ".repeat(250); 20];
        other.embed(EmbedRequest { texts, skip_cache: true, ..plain() }).await
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let mut client = client.clone();
        calls.spawn(async move { one(&mut client, "asked for by all", plain()).await });
    }
    let found = calls.join_all().await;
    busy.await.expect("no panic").expect("embeddings");
    assert_eq!(found.iter().filter(|embedding| !embedding.cached).count(), 1);
    assert!(found.iter().all(|embedding| embedding.values == found[0].values));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_does_not_wait_behind_the_queue() {
    let server = Server::start(Model::MiniLm, &CACHE);
    let mut client = server.client().await;
    one(&mut client, "known", plain()).await;
    let mut other = client.clone();
    let busy = tokio::spawn(async move {
        let texts = vec!["word ".repeat(250); 100];
        other.embed(EmbedRequest { texts, skip_cache: true, ..plain() }).await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(one(&mut client, "known", plain()).await.cached);
    assert!(!busy.is_finished(), "seconds of work");
    busy.await.expect("no panic").expect("embeddings");
}

#[tokio::test]
async fn entries_grow_old_and_the_cache_can_be_off() {
    let server = Server::start(Model::MiniLm, &["--cache-bytes", "1MiB", "--cache-ttl", "300ms"]);
    let mut client = server.client().await;
    one(&mut client, "known", plain()).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!one(&mut client, "known", plain()).await.cached);
    let server = Server::start(Model::MiniLm, &["--cache-bytes", "0"]);
    let mut client = server.client().await;
    for _ in 0..2 {
        assert!(!one(&mut client, "known", plain()).await.cached);
    }
}
