//! From texts to batches: a bounded queue, the rules for forming a batch, and a worker for each session.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::caller::{Caller, CallerId, Priority};
use crate::stats::{BatchCounters, QueueStats};
use embedd_model::engine::{InferenceError, Session, TokenIds};

mod flights;
mod gate;
mod places;
mod policy;
mod queue;
mod schedule;
mod worker;

use flights::{Answer, FlightId, WaiterId};
pub(crate) use gate::{Entered, Gate, GateFull};
pub(crate) use policy::BatchLimits;
use queue::{Queue, Request};

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

/// What identifies a text whose computation may be shared: everything that its vector depends on.
pub(crate) type FlightKey = [u8; 32];

/// What the queue shares its throughput between: the requests of one caller with one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Share {
    caller: CallerId,
    priority: Priority,
}

/// An admitted request, which adds its texts one by one. Places that it does not use are released when it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    queue: Arc<Queue>,
    request: Request,
}

/// A text in the queue. Dropping it while the text is queued removes the text, unless another request waits for it.
/// While it exists, requests for the same text get its result.
#[derive(Debug)]
pub(crate) struct Ticket {
    queue: Arc<Queue>,
    flight: FlightId,
    waiter: WaiterId,
    answer: oneshot::Receiver<Answer>,
}

/// The embedding of one text, with its timings.
#[derive(Debug, Clone)]
pub(crate) struct Inferred {
    /// Pooled, not normalized.
    pub embedding: Arc<[f32]>,
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

/// Why a session does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionFault {
    /// It has been running a batch, or has left texts in the queue, for this time.
    Hangs { time: Duration },
    /// It fails whatever it is given.
    Fails,
    /// Its thread has ended.
    Ended,
}

impl fmt::Display for SessionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hangs { time } => write!(f, "it has not finished a batch for {time:.0?}"),
            Self::Fails => f.write_str("it fails whatever it is given"),
            Self::Ended => f.write_str("its thread has ended"),
        }
    }
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
                .spawn(move || worker::run(&queue, index, session, batch))?;
            batcher.workers.push(worker);
        }
        Ok(batcher)
    }

    /// Admits a request for the texts with these keys, all of them or none. A text without a key shares no computation.
    /// Requests of a stream wait while the queue is full; others are refused.
    ///
    /// # Errors
    /// [`BatchError::QueueFull`], [`BatchError::Closed`].
    pub(crate) async fn admit(&self, caller: &Caller, keys: &[Option<FlightKey>]) -> Result<Admitted, BatchError> {
        let share = Share { caller: caller.id, priority: caller.priority };
        let request = match &caller.turns {
            None => self.queue.admit(share, keys)?,
            Some(turns) => {
                let _turn = turns.next().await;
                self.queue.admit_when_free(share, keys).await?
            }
        };
        Ok(Admitted { queue: Arc::clone(&self.queue), request })
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

    /// Why a session does not work, if one does not. `limit` is longer than any batch takes.
    pub(crate) fn fault(&self, limit: Duration) -> Option<SessionFault> {
        if self.workers.iter().any(JoinHandle::is_finished) {
            return Some(SessionFault::Ended);
        }
        if self.queue.is_failing() {
            return Some(SessionFault::Fails);
        }
        let time = self.queue.oldest_run().map(|started| started.elapsed());
        time.filter(|time| *time > limit).map(|time| SessionFault::Hangs { time })
    }

    /// The number of sessions that are running a batch.
    pub(crate) fn busy(&self) -> usize {
        self.queue.busy()
    }
}

impl Admitted {
    /// Queues the request's next text.
    ///
    /// # Errors
    /// [`BatchError::Closed`].
    pub(crate) fn queue(&mut self, ids: TokenIds, key: Option<FlightKey>) -> Result<Ticket, BatchError> {
        let queued = self.queue.push(&mut self.request, ids, key)?;
        Ok(Ticket {
            queue: Arc::clone(&self.queue),
            flight: queued.flight,
            waiter: queued.waiter,
            answer: queued.answer,
        })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.queue.release(&self.request);
    }
}

impl Ticket {
    /// Waits for the embedding. Also returns whether it is the result of another request's computation.
    ///
    /// # Errors
    /// [`BatchError::Closed`], [`BatchError::Inference`].
    pub(crate) async fn wait(&mut self) -> Result<(Inferred, bool), BatchError> {
        let answer = (&mut self.answer).await.map_err(|_| BatchError::Closed)?;
        Ok((answer.reply?, !answer.first))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queue.leave(self.flight, self.waiter);
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
