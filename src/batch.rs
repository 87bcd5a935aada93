//! From texts to batches: a bounded queue, the rules by which a batch forms, and a worker for each session.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::engine::{InferenceError, Session, TokenIds};
use crate::stats::{BatchCounters, QueueStats};

mod policy;
mod queue;
mod worker;

pub use policy::BatchLimits;
use queue::{Pending, Queue};

/// Feeds the sessions; dropped, it finishes what is queued and ends its workers.
#[derive(Debug)]
pub struct Batcher {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
}

/// The embeddings of one request, and what they took.
#[derive(Debug)]
pub struct Inferred {
    /// Pooled, not normalised; in the order of the texts.
    pub embeddings: Vec<Vec<f32>>,
    /// How long the text that waited longest waited for a session.
    pub queue: Duration,
    /// How long the model ran, over all batches that the request's texts were in.
    pub infer: Duration,
}

/// Why texts were not embedded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BatchError {
    /// There is no room for the request's texts in the queue.
    #[error("the queue is full: {waiting} texts wait for a session, {capacity} may; {refused} more do not fit")]
    QueueFull {
        /// Texts waiting.
        waiting: usize,
        /// Texts that may wait.
        capacity: usize,
        /// Texts that were refused.
        refused: usize,
    },
    /// The server is stopping.
    #[error("the server is stopping")]
    Closed,
    /// The model failed on the batch that a text was in.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

/// What a worker says of one text.
type Reply = Result<Answer, InferenceError>;

#[derive(Debug)]
struct Answer {
    embedding: Vec<f32>,
    queue: Duration,
    /// Batches are counted from the start, so that a request can tell whether two texts shared one.
    batch: u64,
    infer: Duration,
}

impl Batcher {
    /// Starts a worker thread for each session. `capacity`: texts that may wait at most. `counters` may be those of
    /// another batcher, too.
    ///
    /// # Errors
    /// What starting a thread failed with.
    pub fn start(
        sessions: Vec<Box<dyn Session>>,
        limits: BatchLimits,
        capacity: NonZeroUsize,
        counters: BatchCounters,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(capacity, counters));
        let mut batcher = Self { queue, workers: Vec::with_capacity(sessions.len()) };
        for (index, session) in sessions.into_iter().enumerate() {
            let queue = Arc::clone(&batcher.queue);
            let worker = std::thread::Builder::new()
                .name(format!("session-{index}"))
                .spawn(move || worker::run(&queue, session, limits))?;
            batcher.workers.push(worker);
        }
        Ok(batcher)
    }

    /// Embeds texts. Dropped before it is done, texts that still wait are not computed.
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn infer(&self, texts: Vec<TokenIds>) -> Result<Inferred, BatchError> {
        let receivers = self.enqueue(texts)?;
        let mut embeddings = Vec::with_capacity(receivers.len());
        let mut queue = Duration::ZERO;
        let mut batches = BTreeMap::new();
        for receiver in receivers {
            let answer = receiver.await.map_err(|_| BatchError::Closed)??;
            queue = queue.max(answer.queue);
            batches.insert(answer.batch, answer.infer);
            embeddings.push(answer.embedding);
        }
        Ok(Inferred { embeddings, queue, infer: batches.into_values().sum() })
    }

    /// The queue as it is now, and what was counted.
    pub fn queue_stats(&self) -> QueueStats {
        self.queue.stats()
    }

    /// Sessions that run a batch now.
    pub fn busy(&self) -> usize {
        self.queue.busy()
    }

    /// Queues the shortest texts first: neighbours of like length leave little padding. The receivers are in the
    /// order of the texts.
    fn enqueue(&self, texts: Vec<TokenIds>) -> Result<Vec<oneshot::Receiver<Reply>>, BatchError> {
        let enqueued = Instant::now();
        let (mut pending, receivers): (Vec<_>, Vec<_>) = texts
            .into_iter()
            .map(|ids| {
                let (reply, receiver) = oneshot::channel();
                (Pending { ids, reply, enqueued }, receiver)
            })
            .unzip();
        pending.sort_by_key(|pending| pending.ids.len());
        self.queue.push(pending)?;
        Ok(receivers)
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
