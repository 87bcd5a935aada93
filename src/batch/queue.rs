//! The texts that wait for a session: bounded, and taken in the order of their schedule.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::policy::{BatchLimits, next_batch};
use super::schedule::{Lane, Schedule};
use super::{BatchError, QueueLimits, Reply};
use crate::stats::{BatchCounters, QueueStats};
use embedd_model::engine::TokenIds;

/// How much the newest batch counts in the mean time of a text.
const WEIGHT_OF_NEWEST: f64 = 0.1;
/// When a caller may come again, at least.
const LEAST_RETRY_DELAY: Duration = Duration::from_millis(10);

/// A text that waits, and where its embedding goes.
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
    /// Sessions that wait for texts.
    idle: usize,
    closed: bool,
    /// Batches that were taken.
    batches: u64,
    /// Mean time from one text's end to the next one's, over all sessions.
    seconds_per_text: f64,
}

impl Queue {
    pub(super) fn new(limits: QueueLimits, sessions: usize, counters: BatchCounters) -> Self {
        let state =
            State { schedule: Schedule::new(), sessions, idle: 0, closed: false, batches: 0, seconds_per_text: 0.0 };
        Self { limits, counters, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Admits a request of `texts` texts, all of them or none.
    pub(super) fn admit(&self, texts: usize) -> Result<Lane, BatchError> {
        let mut state = self.lock();
        if state.closed {
            return Err(BatchError::Closed);
        }
        if self.is_full(&state, texts) {
            // Those whose callers have gone may be what fills it.
            self.drop_abandoned(&mut state);
            if self.is_full(&state, texts) {
                self.counters.refused(texts);
                return Err(BatchError::QueueFull {
                    waiting: state.schedule.len(),
                    refused: texts,
                    retry_after: self.retry_after(&state),
                });
            }
        }
        Ok(state.schedule.lane())
    }

    fn is_full(&self, state: &State, texts: usize) -> bool {
        let waiting = state.schedule.len();
        let no_room = waiting > 0 && waiting + texts > self.limits.total.get();
        no_room || state.schedule.has_ahead(self.limits.ahead.get())
    }

    /// Half of the time that what is due now takes: later, others would have taken the room.
    fn retry_after(&self, state: &State) -> Duration {
        let due = state.schedule.len().min(self.limits.ahead.get());
        Duration::from_secs_f64(state.seconds_per_text * due as f64 / 2.0).max(LEAST_RETRY_DELAY)
    }

    /// Adds a text of a request that was admitted.
    pub(super) fn push(&self, lane: &mut Lane, text: Pending) -> Result<(), BatchError> {
        let mut state = self.lock();
        if state.closed {
            return Err(BatchError::Closed);
        }
        state.schedule.push(lane, text.ids.len(), text);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for texts and takes a batch of them, with its number; `None` once the queue is closed and empty.
    ///
    /// Texts whose caller has gone are dropped here, before they cost anything.
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
        self.counters.batch(batch.len(), batch.iter().map(|text| text.ids.len()).sum());
        Some((number, batch))
    }

    /// Notes how long a batch ran.
    pub(super) fn ran(&self, texts: usize, time: Duration) {
        let mut state = self.lock();
        let busy = state.busy().max(1);
        let newest = time.as_secs_f64() / (texts.max(1) * busy) as f64;
        let mean = &mut state.seconds_per_text;
        *mean = if *mean == 0.0 { newest } else { *mean + WEIGHT_OF_NEWEST * (newest - *mean) };
    }

    pub(super) fn limits(&self) -> QueueLimits {
        self.limits
    }

    pub(super) fn stats(&self) -> QueueStats {
        self.counters.with_queue(self.lock().schedule.len(), self.limits.total.get())
    }

    /// Sessions that run a batch now.
    pub(super) fn busy(&self) -> usize {
        self.lock().busy()
    }

    fn drop_abandoned(&self, state: &mut State) {
        let before = state.schedule.len();
        state.schedule.retain(|pending| !pending.reply.is_closed());
        self.counters.abandoned(before - state.schedule.len());
    }

    /// Refuses new texts from now on; those that wait are still served.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// No code that holds the lock can leave the state half-changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn busy(&self) -> usize {
        self.sessions - self.idle.min(self.sessions)
    }
}
