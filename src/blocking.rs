//! Work on an async thread that may take long.

/// Runs `work`; if it takes long, another thread takes over this one's other tasks in the meantime.
pub(crate) fn block_in_place_if<T>(takes_long: bool, work: impl FnOnce() -> T) -> T {
    if takes_long { tokio::task::block_in_place(work) } else { work() }
}
