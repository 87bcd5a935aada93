//! Sizes of the session pool and of the queue, from the settings and the CPU quota.

use std::num::NonZeroUsize;

use crate::batch::QueueLimits;
use crate::config::Settings;
use embedd_model::threads::default_threads;

/// Queued requests per CPU unless the settings say otherwise. The comment on the setting gives the reason.
const QUEUED_PER_CPU: NonZeroUsize = NonZeroUsize::new(40).expect("not zero");

/// The CPUs of this process according to its cgroup quota and its affinity, not the CPUs of the host.
pub(crate) fn cpus() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Sessions, and threads per session. Their product is the number of CPUs unless the settings say otherwise.
pub(super) fn pool_size(settings: &Settings, cpus: NonZeroUsize) -> (NonZeroUsize, NonZeroUsize) {
    let share = |of: NonZeroUsize| NonZeroUsize::new(cpus.get() / of).unwrap_or(NonZeroUsize::MIN);
    match (settings.sessions, settings.threads) {
        (Some(sessions), Some(threads)) => (sessions, threads),
        (Some(sessions), None) => (sessions, share(sessions)),
        (None, Some(threads)) => (share(threads), threads),
        (None, None) => {
            let threads = default_threads(cpus);
            (share(threads), threads)
        }
    }
}

pub(super) fn queue_limits(settings: &Settings, cpus: NonZeroUsize) -> QueueLimits {
    let ahead = settings.queue_requests.unwrap_or_else(|| cpus.saturating_mul(QUEUED_PER_CPU));
    QueueLimits { ahead, total: settings.queue_total_texts }
}
