//! The bounded queue of texts that wait for a session, taken in the order of the schedule.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::policy::{BatchLimits, next_batch};
use super::schedule::{Flow, Schedule};
use super::{BatchError, QueueLimits, Reply};
use crate::stats::{BatchCounters, QueueStats};
use embedd_model::engine::TokenIds;

/// Weight of the newest batch in the moving average of the time per text.
const NEWEST_WEIGHT: f64 = 0.1;
/// The minimum retry delay sent to callers.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(10);

/// A queued text, with the channel for its embedding.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ids: TokenIds,
    pub(super) reply: oneshot::Sender<Reply>,
    pub(super) enqueued: Instant,
}

#[derive(Debug)]
pub(super) struct Queue {
    limits: QueueLimits,
    counters: BatchCounters,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    schedule: Schedule<Pending>,
    sessions: usize,
    /// Sessions waiting for texts.
    idle: usize,
    closed: bool,
    /// Batches taken so far.
    batches: u64,
    /// Moving average of the time per text at the current throughput of all sessions.
    seconds_per_text: f64,
}

impl Queue {
    pub(super) fn new(limits: QueueLimits, sessions: usize, counters: BatchCounters) -> Self {
        let state =
            State { schedule: Schedule::new(), sessions, idle: 0, closed: false, batches: 0, seconds_per_text: 0.0 };
        Self { limits, counters, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Admits a request of `texts` texts, all of them or none.
    pub(super) fn admit(&self, texts: usize) -> Result<Flow, BatchError> {
        let mut state = self.lock();
        if state.closed {
            return Err(BatchError::Closed);
        }
        if self.is_full(&state, texts) {
            // Texts whose callers have disconnected may still take up space.
            self.drop_abandoned(&mut state);
            if self.is_full(&state, texts) {
                self.counters.count_refused(texts);
                return Err(BatchError::QueueFull {
                    waiting: state.schedule.len(),
                    refused: texts,
                    retry_after: self.retry_after(&state),
                });
            }
        }
        Ok(state.schedule.start_flow())
    }

    fn is_full(&self, state: &State, texts: usize) -> bool {
        let waiting = state.schedule.len();
        let exceeds_total = waiting > 0 && waiting + texts > self.limits.total.get();
        exceeds_total || state.schedule.has_requests_ahead(self.limits.ahead.get())
    }

    /// Half the time that the work ahead will take: by the end of it, others would have taken the space.
    fn retry_after(&self, state: &State) -> Duration {
        let ahead = state.schedule.len().min(self.limits.ahead.get());
        Duration::from_secs_f64(state.seconds_per_text * ahead as f64 / 2.0).max(MIN_RETRY_DELAY)
    }

    /// Queues a text of an admitted request.
    pub(super) fn push(&self, flow: &mut Flow, text: Pending) -> Result<(), BatchError> {
        let mut state = self.lock();
        if state.closed {
            return Err(BatchError::Closed);
        }
        state.schedule.push(flow, text.ids.len(), text);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for texts and takes a batch of them, numbered; `None` once the queue is closed and empty.
    ///
    /// Texts whose caller has disconnected are dropped before any work is spent on them.
    pub(super) fn take(&self, limits: BatchLimits) -> Option<(u64, Vec<Pending>)> {
        let mut state = self.lock();
        state.idle += 1;
        loop {
            self.drop_abandoned(&mut state);
            if !state.schedule.is_empty() {
                break;
            }
            if state.closed {
                state.idle -= 1;
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let count = next_batch(state.schedule.lengths(), limits, state.idle);
        state.idle -= 1;
        let batch = state.schedule.take(count);
        state.batches += 1;
        let number = state.batches;
        let more = !state.schedule.is_empty() && state.idle > 0;
        drop(state);
        if more {
            self.changed.notify_one();
        }
        self.counters.count_batch(batch.len(), batch.iter().map(|text| text.ids.len()).sum());
        Some((number, batch))
    }

    /// Records how long a batch ran.
    pub(super) fn record_run(&self, texts: usize, time: Duration) {
        let mut state = self.lock();
        let busy = state.busy().max(1);
        let newest = time.as_secs_f64() / (texts.max(1) * busy) as f64;
        let mean = &mut state.seconds_per_text;
        *mean = if *mean == 0.0 { newest } else { *mean + NEWEST_WEIGHT * (newest - *mean) };
    }

    pub(super) fn limits(&self) -> QueueLimits {
        self.limits
    }

    pub(super) fn stats(&self) -> QueueStats {
        self.counters.with_queue(self.lock().schedule.len(), self.limits.total.get())
    }

    /// The number of sessions that are running a batch.
    pub(super) fn busy(&self) -> usize {
        self.lock().busy()
    }

    fn drop_abandoned(&self, state: &mut State) {
        let before = state.schedule.len();
        state.schedule.retain(|pending| !pending.reply.is_closed());
        self.counters.count_abandoned(before - state.schedule.len());
    }

    /// Refuses new texts from now on; queued texts are still served.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Ignores poisoning: no code leaves the state inconsistent while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn busy(&self) -> usize {
        self.sessions - self.idle.min(self.sessions)
    }
}
