//! The texts that wait for a session: bounded, first come first served.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use super::policy::{BatchLimits, next_batch};
use super::{BatchError, Reply};
use crate::engine::TokenIds;
use crate::stats::{BatchCounters, QueueStats};

/// A text that waits, and where its embedding goes.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ids: TokenIds,
    pub(super) reply: oneshot::Sender<Reply>,
    pub(super) enqueued: Instant,
}

#[derive(Debug)]
pub(super) struct Queue {
    capacity: NonZeroUsize,
    state: Mutex<State>,
    changed: Condvar,
    counters: BatchCounters,
    /// Sessions that run a batch.
    busy: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Pending>,
    batches: u64,
    closed: bool,
}

impl Queue {
    pub(super) fn new(capacity: NonZeroUsize, counters: BatchCounters) -> Self {
        Self { capacity, state: Mutex::default(), changed: Condvar::new(), counters, busy: AtomicUsize::new(0) }
    }

    /// Adds all of the texts, or none where they do not fit.
    pub(super) fn push(&self, texts: Vec<Pending>) -> Result<(), BatchError> {
        let mut state = self.lock();
        if state.closed {
            return Err(BatchError::Closed);
        }
        let (waiting, capacity) = (state.waiting.len(), self.capacity.get());
        if waiting + texts.len() > capacity {
            self.counters.refused(texts.len());
            return Err(BatchError::QueueFull { waiting, capacity, refused: texts.len() });
        }
        let several = texts.len() > 1;
        state.waiting.extend(texts);
        drop(state);
        if several {
            self.changed.notify_all();
        } else {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Waits for texts and takes a batch of them, with its number; `None` once the queue is closed and empty.
    ///
    /// Texts whose caller has gone are dropped here, before they cost anything.
    pub(super) fn take(&self, limits: BatchLimits) -> Option<(u64, Vec<Pending>)> {
        let mut state = self.lock();
        loop {
            state.waiting.retain(|pending| !pending.reply.is_closed());
            if !state.waiting.is_empty() {
                break;
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let count = next_batch(state.waiting.iter().map(|pending| pending.ids.len()), limits);
        let batch: Vec<Pending> = state.waiting.drain(..count).collect();
        state.batches += 1;
        let number = state.batches;
        drop(state);
        self.counters.batch(batch.len(), batch.iter().map(|pending| pending.ids.len()).sum());
        Some((number, batch))
    }

    /// Texts that wait now.
    pub(super) fn depth(&self) -> usize {
        self.lock().waiting.len()
    }

    pub(super) fn stats(&self) -> QueueStats {
        self.counters.with_queue(self.depth(), self.capacity.get())
    }

    /// Sessions that run a batch now.
    pub(super) fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    /// Does a session's work, which must not panic.
    pub(super) fn while_busy<T>(&self, work: impl FnOnce() -> T) -> T {
        self.busy.fetch_add(1, Ordering::Relaxed);
        let done = work();
        self.busy.fetch_sub(1, Ordering::Relaxed);
        done
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
