//! Texts that are queued or being computed, and who waits for them. Requests for the same text share one computation
//! (single-flight), but each of them has its own position in the queue: the text is computed as soon as the first of
//! them is due, so no request ever waits for the late position of another one.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use tokio::sync::oneshot;

use super::places::RequestId;
use super::schedule::Position;
use super::{FlightKey, Reply, Share};
use embedd_model::engine::TokenIds;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FlightId(u64);

/// A waiter of a flight. They are numbered in order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct WaiterId(u64);

/// One computation of a text, for everyone who waits for it.
#[derive(Debug)]
pub(super) struct Flight {
    /// `None` if the computation must not be shared.
    key: Option<FlightKey>,
    stage: Stage,
    pub(super) waiters: BTreeMap<WaiterId, Waiter>,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The tokens, until a session takes them.
    Queued(TokenIds),
    /// A session computes the text, at the position of this waiter.
    Running(WaiterId),
    /// Kept until the last waiter has left, so that its result is in the cache before it is forgotten here.
    Finished(Reply),
}

/// A request that waits for a flight.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) request: RequestId,
    pub(super) share: Share,
    /// While the flight is queued.
    pub(super) position: Option<Position>,
    /// Whether the place of the flight is held by this waiter's request.
    pub(super) holds_place: bool,
    /// Until the reply is sent.
    reply: Option<oneshot::Sender<Answer>>,
    pub(super) enqueued: Instant,
}

/// The reply to one waiter.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(super) reply: Reply,
    /// Whether this waiter is the one that the text was computed for. All others share its result.
    pub(super) first: bool,
}

/// All flights.
#[derive(Debug, Default)]
pub(super) struct Flights {
    flights: HashMap<FlightId, Flight>,
    by_key: HashMap<FlightKey, FlightId>,
    last: u64,
}

impl Waiter {
    pub(super) fn new(request: RequestId, share: Share, reply: oneshot::Sender<Answer>, enqueued: Instant) -> Self {
        Self { request, share, position: None, holds_place: false, reply: Some(reply), enqueued }
    }

    fn answer(&mut self, reply: Reply, first: bool) {
        if let Some(sender) = self.reply.take() {
            // Fails if the caller has disconnected.
            let _ = sender.send(Answer { reply, first });
        }
    }
}

impl Flight {
    pub(super) fn is_queued(&self) -> bool {
        matches!(self.stage, Stage::Queued(_))
    }
}

impl Flights {
    pub(super) fn find(&self, key: &FlightKey) -> Option<FlightId> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get_mut(&mut self, id: FlightId) -> Option<&mut Flight> {
        self.flights.get_mut(&id)
    }

    /// Starts a flight, without waiters.
    pub(super) fn start(&mut self, key: Option<FlightKey>, ids: TokenIds) -> FlightId {
        let id = FlightId(self.number());
        if let Some(key) = key {
            self.by_key.insert(key, id);
        }
        self.flights.insert(id, Flight { key, stage: Stage::Queued(ids), waiters: BTreeMap::new() });
        id
    }

    /// Adds a waiter. If the flight has finished, it gets the reply immediately.
    pub(super) fn join(&mut self, id: FlightId, mut waiter: Waiter) -> WaiterId {
        let number = WaiterId(self.number());
        if let Some(flight) = self.flights.get_mut(&id) {
            if let Stage::Finished(reply) = &flight.stage {
                waiter.answer(reply.clone(), false);
            }
            flight.waiters.insert(number, waiter);
        }
        number
    }

    /// A session takes the flight at the position of this waiter. Returns its tokens, unless it was taken before.
    pub(super) fn claim(&mut self, id: FlightId, waiter: WaiterId) -> Option<TokenIds> {
        let flight = self.flights.get_mut(&id)?;
        if !flight.is_queued() {
            return None;
        }
        match std::mem::replace(&mut flight.stage, Stage::Running(waiter)) {
            Stage::Queued(ids) => Some(ids),
            Stage::Running(_) | Stage::Finished(_) => None,
        }
    }

    /// Answers all waiters. If the waiter that the text was computed for has left, the one that has waited longest takes
    /// its part.
    pub(super) fn finish(&mut self, id: FlightId, reply: &Reply) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let claimant = match flight.stage {
            Stage::Running(claimant) if flight.waiters.contains_key(&claimant) => Some(claimant),
            _ => flight.waiters.first_key_value().map(|(id, _)| *id),
        };
        for (waiter, state) in &mut flight.waiters {
            state.answer(reply.clone(), Some(*waiter) == claimant);
        }
        flight.stage = Stage::Finished(reply.clone());
        if flight.waiters.is_empty() {
            self.forget(id);
        }
    }

    /// Removes a waiter. A flight without waiters is forgotten, unless a session computes it.
    pub(super) fn leave(&mut self, id: FlightId, waiter: WaiterId) -> Option<Waiter> {
        let flight = self.flights.get_mut(&id)?;
        let left = flight.waiters.remove(&waiter);
        if flight.waiters.is_empty() && !matches!(flight.stage, Stage::Running(_)) {
            self.forget(id);
        }
        left
    }

    fn forget(&mut self, id: FlightId) {
        if let Some(key) = self.flights.remove(&id).and_then(|flight| flight.key) {
            self.by_key.remove(&key);
        }
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.flights.len() + self.by_key.len()
    }
}
