//! The default number of threads of a session.

use std::num::NonZeroUsize;

/// The default maximum per session: with more threads, a short text gains little.
const MAX_THREADS: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// The default number of threads for a machine or a quota of `cpus` CPUs.
pub fn default_threads(cpus: NonZeroUsize) -> NonZeroUsize {
    cpus.min(MAX_THREADS)
}
