//! Reports NOT_SERVING while a session does not work: a batch that runs for longer than any batch takes will not end, a
//! thread that is stuck or has ended takes no further batches, and a GPU may fail everything after an error. Kubernetes
//! then sends requests elsewhere and, by the liveness probe, restarts the server.

use std::time::Duration;

use crate::batch::SessionFault;
use crate::grpc::Health;

/// How often the sessions are checked, as a fraction of the limit.
const CHECKS: u32 = 10;
const MAX_INTERVAL: Duration = Duration::from_secs(1);

/// Checks for as long as the future is polled. `fault` is [`Batcher::fault`](crate::batch::Batcher::fault).
pub(super) async fn watch(health: Health, limit: Duration, fault: impl Fn(Duration) -> Option<SessionFault>) {
    let interval = (limit / CHECKS).min(MAX_INTERVAL);
    let mut was_faulty = false;
    loop {
        tokio::time::sleep(interval).await;
        let fault = fault(limit);
        if fault.is_some() != was_faulty {
            was_faulty = fault.is_some();
            match fault {
                Some(fault) => tracing::error!("a session does not work: {fault}; health is NOT_SERVING"),
                None => tracing::info!("all sessions work again"),
            }
            health.faulty(was_faulty).await;
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

    /// Waits for permission to finish each batch: to succeed or to fail. Ends its thread if that never comes.
    struct Blocking(mpsc::Receiver<bool>);

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
                Ok(true) => Ok(Array2::zeros((batch.len(), 1))),
                Ok(false) => Err(InferenceError("CUDA failure 719".to_owned())),
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
    async fn health_is_not_serving_while_a_session_hangs_or_fails_everything_or_after_it_has_ended() {
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
        let watch = tokio::spawn(watch(health.clone(), Duration::from_millis(10), move |limit| watched.fault(limit)));

        let mut admitted = batcher.admit(&Caller::server(), &[None, None, None, None]).await.expect("space");
        let mut text = || admitted.queue(TokenIds::new([1]), None).expect("queued");
        let mut hanging = text();
        until(&readiness, Phase::Faulty).await;
        let may =
            |succeed: &[bool]| succeed.iter().for_each(|&succeeds| go.send(succeeds).expect("the session listens"));
        may(&[true]);
        hanging.wait().await.expect("an embedding");
        until(&readiness, Phase::Ready).await;

        // After a batch that failed, the session is tried with another text.
        let mut failed = text();
        may(&[false, false]);
        failed.wait().await.expect_err("the session fails");
        until(&readiness, Phase::Faulty).await;
        let mut failed = text();
        may(&[false, true]);
        failed.wait().await.expect_err("the text's batch fails");
        until(&readiness, Phase::Ready).await;

        let mut lost = text();
        drop(go);
        let error = lost.wait().await.expect_err("the session ends");
        assert!(error.to_string().contains("ended"), "{error}");
        until(&readiness, Phase::Faulty).await;
        health.not_serving().await;
        assert_eq!(readiness.phase(), Phase::Stopping);
        watch.abort();
    }
}
