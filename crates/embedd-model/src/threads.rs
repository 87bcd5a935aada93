//! The default number of threads of a session.

use std::num::NonZeroUsize;

/// The maximum default per session: short texts gain little from more threads.
const MAX_THREADS: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// The default number of threads for a machine with `cpus` CPUs, or for a quota of `cpus` CPUs.
pub fn default_threads(cpus: NonZeroUsize) -> NonZeroUsize {
    cpus.min(MAX_THREADS)
}
