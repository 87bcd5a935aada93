//! How many threads a session has where the user does not say.

use std::num::NonZeroUsize;

/// Threads of one session at most: beyond, a short text gains little.
const MOST: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// On a machine, or in a quota, of so many CPUs.
pub fn default_threads(cpus: NonZeroUsize) -> NonZeroUsize {
    cpus.min(MOST)
}
