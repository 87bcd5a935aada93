//! Limits how much work that needs a CPU is done at the same time, besides that of the sessions: a semaphore that is fair
//! between callers. It uses the same schedule and the same admission as the queue of the sessions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::places::{Places, RequestId};
use super::schedule::{Flow, Position, Schedule};
use super::{QueueLimits, Share};
use crate::caller::Caller;
use embedd_common::jitter::jittered;

/// The retry delay sent to callers, before jitter: long enough for many steps.
const RETRY_DELAY: Duration = Duration::from_millis(100);
const RETRY_JITTER: f64 = 0.2;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Requests that wait for a permit.
    waiting: Schedule<oneshot::Sender<Permit>>,
    places: Places,
    permits: usize,
}

/// A request that does its work in steps.
#[derive(Debug)]
pub(crate) struct Entered {
    gate: Gate,
    id: RequestId,
    share: Share,
    flow: Flow,
}

/// Permission to do one step. Dropping it lets the next request go on.
#[derive(Debug)]
pub(crate) struct Permit(Gate);

/// Too many requests are working.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server is busy: too many long texts are being tokenized; try again later")]
pub(crate) struct GateFull {
    pub(crate) retry_after: Duration,
}

/// Removes a waiting request when it is dropped.
struct Waiting<'g> {
    gate: &'g Gate,
    position: Position,
}

impl Gate {
    /// Lets this number of steps run at the same time, and `limits` apply to the requests that have entered.
    pub(crate) fn new(permits: usize, limits: QueueLimits) -> Self {
        let state = State { waiting: Schedule::new(), places: Places::new(limits), permits };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Admits a request.
    ///
    /// # Errors
    /// [`GateFull`].
    pub(crate) fn enter(&self, caller: &Caller) -> Result<Entered, GateFull> {
        let share = Share { caller: caller.id, priority: caller.priority };
        let mut state = self.lock();
        if !state.places.fits(share, 1) {
            return Err(GateFull { retry_after: jittered(RETRY_DELAY, RETRY_JITTER, fastrand::f64()) });
        }
        let id = state.places.request();
        state.places.hold(id, share, 1);
        Ok(Entered { gate: self.clone(), id, share, flow: Flow::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A permit if one is free. Otherwise the position of the request among those that wait, and the channel on which
    /// it gets its permit.
    fn take(
        &self,
        share: Share,
        flow: &mut Flow,
        cost: usize,
    ) -> Result<Permit, (Position, oneshot::Receiver<Permit>)> {
        let mut state = self.lock();
        if state.permits > 0 {
            state.permits -= 1;
            return Ok(Permit(self.clone()));
        }
        let (sender, permit) = oneshot::channel();
        Err((state.waiting.push(share, flow, cost, sender), permit))
    }
}

impl Entered {
    /// Waits for the permission to do one step. Requests that cost more wait longer.
    pub(crate) async fn permit(&mut self, cost: usize) -> Permit {
        let Self { gate, share, flow, .. } = self;
        let (position, permit) = match gate.take(*share, flow, cost) {
            Ok(permit) => return permit,
            Err(waiting) => waiting,
        };
        let _waiting = Waiting { gate, position };
        match permit.await {
            Ok(permit) => permit,
            // Senders are dropped only together with the request that waits.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.gate.lock().places.release(self.id, 1);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.lock().waiting.remove(self.position);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        match state.waiting.pop() {
            Some(next) => {
                drop(state);
                // If that request has left, its permit is dropped here, and the next one gets it.
                let _ = next.send(Permit(self.0.clone()));
            }
            None => state.permits += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use futures_util::poll;

    use super::*;
    use crate::caller::{CallerId, Priority};

    fn gate(permits: usize, requests: usize) -> Gate {
        let not_zero = |number| NonZeroUsize::new(number).expect("not zero");
        Gate::new(permits, QueueLimits { ahead: not_zero(requests), total: not_zero(1 << 20) })
    }

    fn caller(connection: u64) -> Caller {
        Caller {
            id: CallerId::Connection(connection),
            priority: Priority::Interactive,
            call: None,
            quota: None,
            turns: None,
        }
    }

    #[tokio::test]
    async fn steps_wait_for_permits_and_callers_take_turns() {
        let gate = gate(1, 100);
        let running = gate.enter(&caller(1)).expect("a place").permit(10).await;
        let mut entered: Vec<_> = [1, 1, 1, 2].map(|number| gate.enter(&caller(number)).expect("a place")).into();
        let mut waiting: Vec<_> = entered.iter_mut().map(|entered| Box::pin(entered.permit(10))).collect();
        for waiting in &mut waiting {
            assert!(poll!(waiting).is_pending());
        }
        drop(running);
        let mut order = Vec::new();
        while order.len() < 4 {
            for (index, waiting) in
                waiting.iter_mut().enumerate().filter(|(index, _)| !order.contains(index)).collect::<Vec<_>>()
            {
                if poll!(waiting).is_ready() {
                    order.push(index);
                }
            }
        }
        assert!(order[1] == 3, "the other caller does not wait for all of the first one's: {order:?}");
        assert_eq!(gate.lock().permits, 1);
    }

    #[tokio::test]
    async fn requests_that_leave_give_their_permits_and_places_back() {
        let gate = gate(2, 3);
        let mut entered: Vec<_> = (0..3).map(|_| gate.enter(&caller(1)).expect("a place")).collect();
        assert!(gate.enter(&caller(1)).is_err());
        let mut third = entered.pop().expect("three");
        let permits = [entered[0].permit(1).await, entered[1].permit(1).await];
        {
            let mut waiting = Box::pin(third.permit(1));
            assert!(poll!(&mut waiting).is_pending());
        }
        {
            let mut waiting = Box::pin(third.permit(1));
            assert!(poll!(&mut waiting).is_pending());
            drop(permits);
            // It has been given a permit, and leaves without using it.
        }
        let state = gate.lock();
        assert_eq!((state.permits, state.waiting.len()), (2, 0));
        drop(state);
        drop(third);
        assert!(gate.enter(&caller(1)).is_ok());
    }
}
