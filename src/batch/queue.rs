//! The bounded queue of texts that wait for a session, taken in the order of the schedule.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::flights::{Answer, FlightId, Flights, Waiter, WaiterId};
use super::places::{Places, RequestId};
use super::policy::{BatchLimits, NextBatch};
use super::schedule::{Flow, Schedule};
use super::{BatchError, FlightKey, QueueLimits, Reply, Share};
use crate::stats::{BatchCounters, QueueStats};
use embedd_common::jitter::jittered;
use embedd_model::engine::TokenIds;

/// Weight of the newest batch in the moving average of the time per text.
const NEWEST_WEIGHT: f64 = 0.1;
/// The minimum retry delay sent to callers, before jitter.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(10);
/// Retry delays vary by this fraction, so that callers who are refused together do not return together.
const RETRY_JITTER: f64 = 0.2;

#[derive(Debug)]
pub(super) struct Queue {
    counters: BatchCounters,
    state: Mutex<State>,
    /// For sessions: texts were queued, or the queue was closed.
    changed: Condvar,
    /// For requests that wait to be admitted: places were released.
    released: Notify,
}

#[derive(Debug)]
struct State {
    schedule: Schedule<(FlightId, WaiterId)>,
    flights: Flights,
    places: Places,
    /// When each session started the batch that it runs.
    running: Vec<Option<Instant>>,
    /// Whether each session fails whatever it is given.
    failing: Vec<bool>,
    /// Sessions waiting for texts.
    idle: usize,
    /// When a session last took texts, or, if that is later, when texts were queued while there were none.
    progress: Instant,
    closed: bool,
    /// Batches taken so far.
    batches: u64,
    /// Moving average of the time per text at the current throughput of all sessions.
    seconds_per_text: f64,
}

/// An admitted request, which adds its texts one by one.
#[derive(Debug)]
pub(super) struct Request {
    id: RequestId,
    share: Share,
    flow: Flow,
    /// Places for texts that are not queued yet.
    reserved: usize,
}

/// A text that a session has taken.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) flight: FlightId,
    pub(super) ids: TokenIds,
    pub(super) enqueued: Instant,
}

/// A text in the queue, and the channel for its reply.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) flight: FlightId,
    pub(super) waiter: WaiterId,
    pub(super) answer: oneshot::Receiver<Answer>,
}

impl Queue {
    pub(super) fn new(limits: QueueLimits, sessions: usize, counters: BatchCounters) -> Self {
        let state = State {
            schedule: Schedule::new(),
            flights: Flights::default(),
            places: Places::new(limits),
            running: vec![None; sessions],
            failing: vec![false; sessions],
            idle: 0,
            progress: Instant::now(),
            closed: false,
            batches: 0,
            seconds_per_text: 0.0,
        };
        Self { counters, state: Mutex::new(state), changed: Condvar::new(), released: Notify::new() }
    }

    /// Admits a request for the texts with these keys, all of them or none.
    pub(super) fn admit(&self, share: Share, keys: &[Option<FlightKey>]) -> Result<Request, BatchError> {
        let admitted = self.try_admit(share, keys);
        if let Err(BatchError::QueueFull { refused, .. }) = &admitted {
            self.counters.count_refused(*refused);
        }
        admitted
    }

    /// Like [`admit`](Self::admit), but waits while the queue is full.
    pub(super) async fn admit_when_free(
        &self,
        share: Share,
        keys: &[Option<FlightKey>],
    ) -> Result<Request, BatchError> {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // From here on, no release is missed.
            released.as_mut().enable();
            match self.try_admit(share, keys) {
                Err(BatchError::QueueFull { .. }) => released.await,
                admitted => {
                    // The next request may fit, too.
                    self.released.notify_one();
                    return admitted;
                }
            }
        }
    }

    fn try_admit(&self, share: Share, keys: &[Option<FlightKey>]) -> Result<Request, BatchError> {
        let mut state = self.lock();
        if state.closed {
            return Err(BatchError::Closed);
        }
        // The others share computations that have their place already.
        let texts = keys.iter().filter(|key| key.is_none_or(|key| state.flights.find(&key).is_none())).count();
        if !state.places.fits(share, texts) {
            let waiting = state.schedule.len();
            return Err(BatchError::QueueFull { waiting, refused: keys.len(), retry_after: state.retry_after() });
        }
        let id = state.places.request();
        state.places.hold(id, share, texts);
        Ok(Request { id, share, flow: Flow::default(), reserved: texts })
    }

    /// Queues a text of an admitted request. A text that is being computed already is only waited for.
    pub(super) fn push(
        &self,
        request: &mut Request,
        ids: TokenIds,
        key: Option<FlightKey>,
    ) -> Result<Queued, BatchError> {
        let (sender, answer) = oneshot::channel();
        let enqueued = Instant::now();
        let mut state = self.lock();
        if state.closed {
            return Err(BatchError::Closed);
        }
        let tokens = ids.len();
        if state.schedule.is_empty() {
            state.progress = enqueued;
        }
        let known = key.and_then(|key| state.flights.find(&key));
        let flight = known.unwrap_or_else(|| state.flights.start(key, ids));
        let waiter = Waiter::new(request.id, request.share, sender, enqueued);
        let waiter = state.flights.join(flight, waiter);
        state.enter(request, flight, waiter, tokens, known.is_none());
        drop(state);
        self.changed.notify_one();
        Ok(Queued { flight, waiter, answer })
    }

    /// Takes back the places that the request did not use.
    pub(super) fn release(&self, request: &Request) {
        if request.reserved > 0 {
            self.lock().places.release(request.id, request.reserved);
            self.released.notify_one();
        }
    }

    /// Removes a waiter, and its text if it is still queued and nobody else waits for it.
    pub(super) fn leave(&self, flight: FlightId, waiter: WaiterId) {
        if self.lock().leave(flight, waiter) {
            self.counters.count_abandoned(1);
            self.released.notify_one();
        }
    }

    /// Waits for texts and takes a batch of them, numbered; `None` once the queue is closed and empty.
    pub(super) fn take(&self, session: usize, limits: BatchLimits) -> Option<(u64, Vec<Taken>)> {
        let mut state = self.lock();
        state.idle += 1;
        while state.schedule.is_empty() {
            if state.closed {
                state.idle -= 1;
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let batch = state.next_batch(limits);
        state.idle -= 1;
        state.batches += 1;
        state.progress = Instant::now();
        state.running[session] = Some(state.progress);
        let number = state.batches;
        let more = !state.schedule.is_empty() && state.idle > 0;
        drop(state);
        if more {
            self.changed.notify_one();
        }
        self.released.notify_one();
        self.counters.count_batch(batch.len(), batch.iter().map(|text| text.ids.len()).sum());
        Some((number, batch))
    }

    /// Ends the batch that a session runs, and sends the replies.
    pub(super) fn finish(&self, session: usize, replies: impl Iterator<Item = (FlightId, Reply)>) {
        let mut state = self.lock();
        state.running[session] = None;
        for (flight, reply) in replies {
            state.flights.finish(flight, &reply);
        }
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
        self.lock().places.limits()
    }

    pub(super) fn stats(&self) -> QueueStats {
        let state = self.lock();
        self.counters.with_queue(state.schedule.len(), state.places.limits().total.get())
    }

    /// The number of sessions that are running a batch.
    pub(super) fn busy(&self) -> usize {
        self.lock().busy()
    }

    /// When the session started that has been running its batch for the longest time.
    pub(super) fn oldest_run(&self) -> Option<Instant> {
        let state = self.lock();
        // A session that is idle takes texts at once, unless its thread is stuck.
        let ignored = (state.idle > 0 && !state.schedule.is_empty()).then_some(state.progress);
        state.running.iter().flatten().copied().chain(ignored).min()
    }

    /// Records whether a session fails whatever it is given.
    pub(super) fn set_failing(&self, session: usize, fails: bool) {
        self.lock().failing[session] = fails;
    }

    pub(super) fn is_failing(&self) -> bool {
        self.lock().failing.contains(&true)
    }

    /// Refuses new texts from now on; queued texts are still served.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
        self.released.notify_waiters();
    }

    /// Ignores poisoning: no code leaves the state inconsistent while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of flights, and of places that requests hold.
    #[cfg(test)]
    pub(super) fn leftovers(&self) -> (usize, usize) {
        let state = self.lock();
        (state.flights.len(), state.places.held())
    }
}

impl State {
    fn busy(&self) -> usize {
        self.running.iter().flatten().count()
    }

    /// Half the time that the work ahead will take: by the end of it, others would have taken the space.
    fn retry_after(&self) -> Duration {
        let ahead = self.schedule.len().min(self.places.limits().ahead.get());
        let half = Duration::from_secs_f64(self.seconds_per_text * ahead as f64 / 2.0);
        jittered(half.max(MIN_RETRY_DELAY), RETRY_JITTER, fastrand::f64())
    }

    /// Gives a waiter its position in the queue, unless the text is being computed.
    fn enter(&mut self, request: &mut Request, flight: FlightId, waiter: WaiterId, tokens: usize, is_new: bool) {
        let Some(state) = self.flights.get_mut(flight).filter(|flight| flight.is_queued()) else { return };
        let Some(state) = state.waiters.get_mut(&waiter) else { return };
        state.position = Some(self.schedule.push(request.share, &mut request.flow, tokens, (flight, waiter)));
        if is_new {
            state.holds_place = true;
            match request.reserved.checked_sub(1) {
                Some(reserved) => request.reserved = reserved,
                // The computation that the request was admitted to share has ended in the meantime.
                None => self.places.hold(request.id, request.share, 1),
            }
        }
    }

    fn next_batch(&mut self, limits: BatchLimits) -> Vec<Taken> {
        let mut size = NextBatch::new(limits, self.schedule.tokens(), self.idle);
        let mut batch = Vec::new();
        while self.schedule.next_tokens().is_some_and(|tokens| size.add(tokens)) {
            let Some((flight, waiter)) = self.schedule.pop() else { break };
            batch.extend(self.claim(flight, waiter));
        }
        batch
    }

    /// Takes a flight at the position of this waiter, and removes the positions of all others.
    fn claim(&mut self, id: FlightId, waiter: WaiterId) -> Option<Taken> {
        let ids = self.flights.claim(id, waiter)?;
        let flight = self.flights.get_mut(id)?;
        let enqueued = flight.waiters.get(&waiter)?.enqueued;
        for (other, state) in &mut flight.waiters {
            let position = state.position.take().filter(|_| *other != waiter);
            if let Some(position) = position {
                self.schedule.remove(position);
            }
            if std::mem::take(&mut state.holds_place) {
                self.places.release(state.request, 1);
            }
        }
        Some(Taken { flight: id, ids, enqueued })
    }

    /// Returns whether a queued text was dropped.
    fn leave(&mut self, flight: FlightId, waiter: WaiterId) -> bool {
        let Some(left) = self.flights.leave(flight, waiter) else { return false };
        if let Some(position) = left.position {
            self.schedule.remove(position);
        }
        if left.holds_place {
            let heir = self.flights.get_mut(flight).and_then(|flight| flight.waiters.values_mut().next());
            if let Some(heir) = heir {
                heir.holds_place = true;
                self.places.hold(heir.request, heir.share, 1);
            }
            self.places.release(left.request, 1);
        }
        left.position.is_some()
    }
}
