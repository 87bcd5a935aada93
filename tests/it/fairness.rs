//! Small requests do not wait behind all of a large one.

use std::time::Duration;

use embedd_proto::EmbedRequest;
use tokio::task::JoinHandle;

use crate::support::models::Model;
use crate::support::server::{Client, Server, embed};

fn large(client: &Client) -> JoinHandle<Result<usize, tonic::Status>> {
    let mut client = client.clone();
    tokio::spawn(async move {
        let texts = vec!["word ".repeat(100); 256];
        let response = client.embed(EmbedRequest { texts, ..Default::default() }).await?;
        Ok(response.into_inner().embeddings.len())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_request_is_answered_while_a_large_one_is_under_way() {
    for sessions in ["1", "2"] {
        let server = Server::start(Model::MiniLm, &["--sessions", sessions, "--threads", "1"]);
        let mut client = server.client().await;
        let large = large(&client);
        tokio::time::sleep(Duration::from_millis(100)).await;
        for _ in 0..5 {
            embed(&mut client, &["a small one"]).await;
            assert!(!large.is_finished(), "five small ones go before the rest of 256");
        }
        assert_eq!(large.await.expect("no panic").expect("embeddings"), 256);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_are_served_while_small_ones_keep_coming() {
    let server = Server::start(Model::MiniLm, &["--sessions", "1"]);
    let client = server.client().await;
    let large = large(&client);
    let small: Vec<JoinHandle<()>> = (0..16)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move {
                loop {
                    embed(&mut client, &["one that comes again and again"]).await;
                }
            })
        })
        .collect();
    let answered = tokio::time::timeout(Duration::from_secs(120), large).await;
    small.iter().for_each(JoinHandle::abort);
    assert_eq!(answered.expect("in time").expect("no panic").expect("embeddings"), 256);
}
