//! How kernels share their work among threads without knowing whose threads they are.

/// Threads that run a kernel's tasks.
pub trait Parallel {
    /// How many run at once, the caller included; at least 1.
    fn threads(&self) -> usize;

    /// Calls `task` once with every number below `count`, from any thread and in any order, and returns when all are
    /// done.
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync));
}

/// The calling thread alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Serial;

impl Parallel for Serial {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(task);
    }
}
