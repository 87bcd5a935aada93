//! Connection permits: they bound the connections that carry API calls, and let the drain wait for the replies.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Permits for connections that carry API calls. Probes and Prometheus need none, so callers cannot use up all
/// connections of the port.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionPermits {
    free: Arc<Semaphore>,
    acquired: TaskTracker,
}

impl ConnectionPermits {
    /// `acquired` holds a token for each permit in use.
    pub(crate) fn new(number: NonZeroUsize, acquired: TaskTracker) -> Self {
        Self { free: Arc::new(Semaphore::new(number.get())), acquired }
    }

    /// Whether the connection has a permit, or gets one now.
    pub(super) fn acquire(&self, permit: &ConnectionPermit) -> bool {
        if permit.0.get().is_some() {
            return true;
        }
        let Ok(free) = Arc::clone(&self.free).try_acquire_owned() else { return false };
        permit.0.set(Acquired { _permit: free, _token: self.acquired.token() }).is_ok()
    }
}

/// The permit of one connection. Its first call acquires it, and the end of the connection releases it, because only
/// then is the last reply known to have been sent.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct ConnectionPermit(Arc<OnceLock<Acquired>>);

#[derive(Debug)]
struct Acquired {
    _permit: OwnedSemaphorePermit,
    _token: TaskTrackerToken,
}
