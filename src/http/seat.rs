//! How many connections may carry calls, and that their replies are waited for.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Seats of connections that carry calls. Those of Prometheus and of probes need none, so that callers cannot take all the
/// room that there is.
#[derive(Debug, Clone)]
pub(crate) struct Seats {
    free: Arc<Semaphore>,
    taken: TaskTracker,
}

impl Seats {
    /// So many; `taken` holds a token for each that is taken.
    pub(crate) fn new(number: NonZeroUsize, taken: TaskTracker) -> Self {
        Self { free: Arc::new(Semaphore::new(number.get())), taken }
    }

    /// Whether the connection has a seat now.
    pub(super) fn take(&self, seat: &Seat) -> bool {
        if seat.0.get().is_some() {
            return true;
        }
        let Ok(place) = Arc::clone(&self.free).try_acquire_owned() else { return false };
        seat.0.set(Taken { _place: place, _counted: self.taken.token() }).is_ok()
    }
}

/// Of one connection: taken with its first call, and given back when the connection has ended, because only then its last
/// reply is known to have been sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Seat(Arc<OnceLock<Taken>>);

#[derive(Debug)]
struct Taken {
    _place: OwnedSemaphorePermit,
    _counted: TaskTrackerToken,
}
