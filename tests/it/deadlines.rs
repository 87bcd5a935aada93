//! The server enforces deadlines, and does no work that no caller is waiting for.

use std::time::Duration;

use tonic::{Code, Request};

use crate::support::bare;
use crate::support::busy::Busy;
use crate::support::exposition::Exposition;
use crate::support::models::Model;
use crate::support::server::{Server, long_texts};

const EMBED: &str = "embedd.v1.EmbeddingService/Embed";

fn start() -> Server {
    Server::start(Model::MiniLm, &["--sessions", "1", "--threads", "1"])
}

#[tokio::test]
async fn the_server_ends_a_call_at_its_deadline() {
    let server = start();
    let busy = Busy::keep(&server, &server.client().await).await;
    for _ in 0..5 {
        let mut request = Request::new(long_texts(100));
        request.set_timeout(Duration::from_millis(100));
        let status = bare::call(&server, EMBED, request).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        assert!(status.message().contains("grpc-timeout"), "{status}");
    }
    busy.end().await;
}

/// Texts that were computed, and texts that were dropped from the queue.
fn done_and_dropped(metrics: &Exposition) -> (f64, f64) {
    let value = |name| metrics.value(name, &[]);
    (value("embedd_batch_texts_sum"), value("embedd_texts_abandoned_total"))
}

#[tokio::test]
async fn texts_of_abandoned_calls_are_dropped_from_the_queue() {
    let server = start();
    let client = server.client().await;
    let (done_before, _) = done_and_dropped(&server.metrics());
    let mut calls = Vec::new();
    for _ in 0..4 {
        let mut client = client.clone();
        calls.push(tokio::spawn(async move { client.embed(long_texts(256)).await }));
    }
    let queue = |metrics: &Exposition| metrics.value("embedd_queue_texts", &[]);
    server.until("most texts are queued", |metrics| queue(metrics) > 700.0).await;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    let is_idle = |metrics: &Exposition| queue(metrics) == 0.0 && metrics.value("embedd_sessions_busy", &[]) == 0.0;
    let metrics = server.until("nothing is left to do", is_idle).await;
    let (done, dropped) = done_and_dropped(&metrics);
    assert_eq!(done - done_before + dropped, 4.0 * 256.0, "every text is either computed or dropped");
    assert!(dropped >= 256.0, "{dropped} of 1024 texts were dropped");
}
