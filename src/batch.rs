//! From texts to batches: a bounded queue, the rules for forming a batch, and a worker for each session.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::caller::Caller;
use crate::stats::{BatchCounters, QueueStats};
use embedd_model::engine::{InferenceError, Session, TokenIds};

mod policy;
mod queue;
mod schedule;
mod worker;

pub(crate) use policy::BatchLimits;
use queue::{Pending, Queue};
use schedule::Flow;

/// Feeds the sessions. Dropping it finishes the queued texts and stops the workers.
#[derive(Debug)]
pub(crate) struct Batcher {
    queue: Arc<Queue>,
    batch: BatchLimits,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueLimits {
    /// Maximum number of requests with texts scheduled ahead of a new request, which is refused if there are more.
    pub ahead: NonZeroUsize,
    /// Maximum number of queued texts, including those of large requests that are scheduled later. A single request may
    /// exceed it if the queue is empty.
    pub total: NonZeroUsize,
}

/// An admitted request, which takes its texts one by one.
#[derive(Debug)]
pub(crate) struct Admitted {
    queue: Arc<Queue>,
    flow: Mutex<Flow>,
}

/// The embedding of one text, with its timings.
#[derive(Debug, Clone)]
pub(crate) struct Inferred {
    /// Pooled, not normalized.
    pub embedding: Vec<f32>,
    /// When the text was queued.
    pub enqueued: Instant,
    /// How long it waited for a session.
    pub queue: Duration,
    /// Number of its batch since the start; the same for texts that shared one.
    pub batch: u64,
    /// Texts in the batch, including those of other requests.
    pub batch_texts: usize,
    /// How long the model ran on the batch.
    pub infer: Duration,
}

#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum BatchError {
    #[error("the server is busy: {waiting} texts are queued, and {refused} more do not fit; try again later")]
    QueueFull {
        waiting: usize,
        refused: usize,
        /// When the queue is likely to have space again.
        retry_after: Duration,
    },
    #[error("the server is stopping")]
    Closed,
    /// The model failed on the batch that a text was in.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

/// A worker's answer for one text.
type Reply = Result<Inferred, InferenceError>;

impl Batcher {
    /// Starts a worker thread for each session. `counters` may be shared with other batchers.
    ///
    /// # Errors
    /// The error of a thread that cannot be started.
    pub(crate) fn start(
        sessions: Vec<Box<dyn Session>>,
        batch: BatchLimits,
        queue: QueueLimits,
        counters: BatchCounters,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(queue, sessions.len(), counters));
        let mut batcher = Self { queue, batch, workers: Vec::with_capacity(sessions.len()) };
        for (index, session) in sessions.into_iter().enumerate() {
            let queue = Arc::clone(&batcher.queue);
            let worker = std::thread::Builder::new()
                .name(format!("session-{index}"))
                .spawn(move || worker::run(&queue, session, batch))?;
            batcher.workers.push(worker);
        }
        Ok(batcher)
    }

    /// Admits a request of `texts` texts, all of them or none.
    ///
    /// # Errors
    /// [`BatchError::QueueFull`], [`BatchError::Closed`].
    pub(crate) fn admit(&self, _caller: &Caller, texts: usize) -> Result<Admitted, BatchError> {
        let flow = self.queue.admit(texts)?;
        Ok(Admitted { queue: Arc::clone(&self.queue), flow: Mutex::new(flow) })
    }

    pub(crate) fn batch_limits(&self) -> BatchLimits {
        self.batch
    }

    pub(crate) fn queue_limits(&self) -> QueueLimits {
        self.queue.limits()
    }

    /// The current state of the queue, and its counters.
    pub(crate) fn queue_stats(&self) -> QueueStats {
        self.queue.stats()
    }

    /// The number of sessions that are running a batch.
    pub(crate) fn busy(&self) -> usize {
        self.queue.busy()
    }
}

impl Admitted {
    /// Embeds the request's next text. If the future is dropped while the text is queued, the text is not computed.
    ///
    /// # Errors
    /// [`BatchError::Closed`], [`BatchError::Inference`].
    pub(crate) async fn infer(&self, ids: TokenIds) -> Result<Inferred, BatchError> {
        let (reply, receiver) = oneshot::channel();
        let pending = Pending { ids, reply, enqueued: Instant::now() };
        // A flow is two numbers, valid even if a holder of the lock panicked.
        self.queue.push(&mut self.flow.lock().unwrap_or_else(PoisonError::into_inner), pending)?;
        Ok(receiver.await.map_err(|_| BatchError::Closed)??)
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.queue.close();
        for worker in self.workers.drain(..) {
            // Workers catch the panics of their session; any other panic has been logged.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests;
