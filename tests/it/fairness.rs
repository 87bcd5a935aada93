//! Small requests do not wait for large ones, and large ones are not starved.

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::support::busy::Busy;
use crate::support::exposition::Exposition;
use crate::support::models::Model;
use crate::support::server::{Server, embed, long_texts};

/// Callers that send requests of 256 long texts, one after the other.
const LARGE_CALLERS: usize = 8;

fn computed(metrics: &Exposition) -> f64 {
    metrics.value("embedd_batch_texts_sum", &[])
}

fn queued(metrics: &Exposition) -> f64 {
    metrics.value("embedd_queue_texts", &[])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_requests_are_answered_before_the_rest_of_the_large_ones_of_eight_callers() {
    for sessions in ["1", "2"] {
        let server = Server::start(Model::MiniLm, &["--sessions", sessions, "--threads", "1"]);
        let mut client = server.client().await;
        let mut busy = Vec::new();
        for _ in 0..LARGE_CALLERS {
            busy.push(Busy::keep_by(1, &server, &server.client().await).await);
        }
        // The number of texts computed in the meantime serves as the clock.
        let before = server
            .until("most texts of the large requests are queued", |m| queued(m) > 200.0 * LARGE_CALLERS as f64)
            .await;
        for _ in 0..5 {
            embed(&mut client, &["a small one"]).await;
        }
        let meanwhile = computed(&server.metrics()) - computed(&before);
        // Each waits for the running batch, and for about one text of every other caller.
        let bound = 5.0 * (2 * LARGE_CALLERS) as f64;
        assert!(meanwhile < bound, "{meanwhile} texts were computed before five small requests were answered");
        for busy in busy {
            busy.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_request_is_answered_while_small_ones_keep_coming() {
    let server = Server::start(Model::MiniLm, &["--sessions", "1"]);
    let client = server.client().await;
    let mut small = JoinSet::new();
    for _ in 0..16 {
        let mut client = client.clone();
        small.spawn(async move {
            loop {
                embed(&mut client, &["one of many"]).await;
            }
        });
    }
    let mut client = client.clone();
    let large = timeout(PATIENCE, client.embed(long_texts(100))).await.expect("it is not starved");
    assert_eq!(large.expect("embeddings").into_inner().embeddings.len(), 100);
    small.shutdown().await;
}
