//! From texts to batches: a bounded queue, the rules by which a batch forms, and a worker for each session.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::stats::{BatchCounters, QueueStats};
use embedd_model::engine::{InferenceError, Session, TokenIds};

mod policy;
mod queue;
mod schedule;
mod worker;

pub(crate) use policy::BatchLimits;
use queue::{Pending, Queue};
use schedule::Lane;

/// Feeds the sessions; dropped, it finishes what is queued and ends its workers.
#[derive(Debug)]
pub(crate) struct Batcher {
    queue: Arc<Queue>,
    batch: BatchLimits,
    workers: Vec<JoinHandle<()>>,
}

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueLimits {
    /// Requests of which texts may be due before a request that comes: with more, it is refused.
    pub ahead: NonZeroUsize,
    /// Texts in all, those of large requests that are not due yet included. A single request may exceed it where
    /// nothing waits.
    pub total: NonZeroUsize,
}

/// An admitted request: its texts come in here, one after the other.
#[derive(Debug)]
pub(crate) struct Admitted {
    queue: Arc<Queue>,
    lane: Mutex<Lane>,
}

/// The embedding of one text, and what it took.
#[derive(Debug, Clone)]
pub(crate) struct Inferred {
    /// Pooled, not normalised.
    pub embedding: Vec<f32>,
    /// When the text began to wait for a session.
    pub enqueued: Instant,
    /// How long it waited.
    pub queue: Duration,
    /// Batches are counted from the start, so that a request can tell whether two texts shared one.
    pub batch: u64,
    /// Texts in the batch, those of other requests included.
    pub batch_texts: usize,
    /// How long the model ran on the batch.
    pub infer: Duration,
}

/// Why texts were not embedded.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum BatchError {
    /// Too much waits.
    #[error("the server is busy: {waiting} texts wait for a session, and {refused} more do not fit; try again later")]
    QueueFull {
        /// Texts waiting.
        waiting: usize,
        /// Texts that were refused.
        refused: usize,
        /// When there may be room again.
        retry_after: Duration,
    },
    /// The server is stopping.
    #[error("the server is stopping")]
    Closed,
    /// The model failed on the batch that a text was in.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

/// What a worker says of one text.
type Reply = Result<Inferred, InferenceError>;

impl Batcher {
    /// Starts a worker thread for each session. `counters` may be those of another batcher, too.
    ///
    /// # Errors
    /// What starting a thread failed with.
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

    /// Admits a request of `texts` texts.
    ///
    /// # Errors
    /// [`BatchError::QueueFull`], [`BatchError::Closed`].
    pub(crate) fn admit(&self, texts: usize) -> Result<Admitted, BatchError> {
        let lane = self.queue.admit(texts)?;
        Ok(Admitted { queue: Arc::clone(&self.queue), lane: Mutex::new(lane) })
    }

    /// How much a batch holds.
    pub(crate) fn batch_limits(&self) -> BatchLimits {
        self.batch
    }

    /// How much may wait.
    pub(crate) fn queue_limits(&self) -> QueueLimits {
        self.queue.limits()
    }

    /// The queue as it is now, and what was counted.
    pub(crate) fn queue_stats(&self) -> QueueStats {
        self.queue.stats()
    }

    /// Sessions that run a batch now.
    pub(crate) fn busy(&self) -> usize {
        self.queue.busy()
    }
}

impl Admitted {
    /// Embeds the request's next text. Dropped before it is done, a text that still waits is not computed.
    ///
    /// # Errors
    /// [`BatchError::Closed`], [`BatchError::Inference`].
    pub(crate) async fn infer(&self, ids: TokenIds) -> Result<Inferred, BatchError> {
        let (reply, receiver) = oneshot::channel();
        let pending = Pending { ids, reply, enqueued: Instant::now() };
        // A lane is two numbers: whoever held it has left it whole.
        self.queue.push(&mut self.lane.lock().unwrap_or_else(PoisonError::into_inner), pending)?;
        Ok(receiver.await.map_err(|_| BatchError::Closed)??)
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.queue.close();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its session; one that died all the same has nothing more to say.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests;
