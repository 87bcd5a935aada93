//! Reports NOT_SERVING while a session hangs: a batch that runs for longer than any batch takes will not end, and a
//! thread that is stuck or has ended takes no further batches. Kubernetes then sends requests elsewhere and, by the liveness probe,
//! restarts the server.

use std::time::Duration;

use crate::grpc::Health;

/// How often the sessions are checked, as a fraction of the limit.
const CHECKS: u32 = 10;
const MAX_INTERVAL: Duration = Duration::from_secs(1);

/// Checks for as long as the future is polled. `longest_run` is [`Batcher::longest_run`](crate::batch::Batcher::longest_run).
pub(super) async fn watch(health: Health, limit: Duration, longest_run: impl Fn() -> Option<Duration>) {
    let interval = (limit / CHECKS).min(MAX_INTERVAL);
    let mut hangs = false;
    loop {
        tokio::time::sleep(interval).await;
        let longest = longest_run();
        if (longest > Some(limit)) != hangs {
            hangs = !hangs;
            match longest.filter(|_| hangs) {
                Some(Duration::MAX) => tracing::error!("the thread of a session has ended: health is NOT_SERVING"),
                Some(time) => tracing::error!(?time, "a session hangs: health is NOT_SERVING"),
                None => tracing::info!("all sessions work again"),
            }
            health.hanging(hangs).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::{Arc, mpsc};

    use ndarray::Array2;

    use super::*;
    use crate::batch::{BatchLimits, Batcher, QueueLimits};
    use crate::caller::Caller;
    use crate::grpc::Protocols;
    use crate::readiness::{Phase, Readiness};
    use crate::stats::Stats;
    use embedd_model::engine::{InferenceError, Session, TokenIds};

    /// Waits for permission to finish each batch. Ends its thread if that never comes.
    struct Blocking(mpsc::Receiver<()>);

    /// Panics when it is dropped, which ends the thread that has caught it.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the payload of a panic panics");
        }
    }

    impl Session for Blocking {
        fn infer(&mut self, batch: &[&TokenIds]) -> Result<Array2<f32>, InferenceError> {
            match self.0.recv() {
                Ok(()) => Ok(Array2::zeros((batch.len(), 1))),
                Err(_) => std::panic::panic_any(Bomb),
            }
        }
    }

    async fn until(readiness: &Readiness, phase: Phase) {
        while readiness.phase() != phase {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn health_is_not_serving_while_a_batch_hangs_or_after_its_thread_has_ended() {
        let (go, permission) = mpsc::channel();
        let number = NonZeroUsize::new(100).expect("not zero");
        let batch = BatchLimits { tokens: number, texts: number, padded: false };
        let queue = QueueLimits { ahead: number, total: number };
        let sessions: Vec<Box<dyn Session>> = vec![Box::new(Blocking(permission))];
        let batcher = Batcher::start(sessions, batch, queue, Stats::default().batches().clone()).expect("a thread");
        let batcher = Arc::new(batcher);
        let readiness = Readiness::default();
        let health = Health::not_yet_serving(Protocols { tei: true, open_inference: true }, readiness.clone()).await;
        health.serving().await;
        let watched = Arc::clone(&batcher);
        let watch = tokio::spawn(watch(health.clone(), Duration::from_millis(10), move || watched.longest_run()));

        let mut admitted = batcher.admit(&Caller::server(), &[None, None]).await.expect("space");
        let mut text = || admitted.queue(TokenIds::new([1]), None).expect("queued");
        let mut hanging = text();
        until(&readiness, Phase::Hanging).await;
        go.send(()).expect("the session listens");
        hanging.wait().await.expect("an embedding");
        until(&readiness, Phase::Ready).await;

        let mut lost = text();
        drop(go);
        let error = lost.wait().await.expect_err("the session ends");
        assert!(error.to_string().contains("ended"), "{error}");
        until(&readiness, Phase::Hanging).await;
        health.not_serving().await;
        assert_eq!(readiness.phase(), Phase::Stopping);
        watch.abort();
    }
}
