//! How kernels share their work among threads without knowing whose threads they are.

use std::sync::atomic::{AtomicBool, Ordering};

/// Threads that run a kernel's tasks.
pub trait Parallel {
    /// How many run at once, the caller included; at least 1.
    fn threads(&self) -> usize;

    /// Calls `task` once with every number below `count`, from any thread and in any order, and returns when all are
    /// done.
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync));
}

/// [`Parallel::run`] for tasks that may write to the same memory if one is run twice: that panics, whatever `parallel`
/// is, before the task begins.
pub(super) fn run_each_once(parallel: &dyn Parallel, count: usize, task: &(dyn Fn(usize) + Sync)) {
    let claimed: Vec<AtomicBool> = (0..count).map(|_| AtomicBool::new(false)).collect();
    parallel.run(count, &|number| {
        assert!(!claimed[number].swap(true, Ordering::Relaxed), "task {number} was run twice");
        task(number);
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the first task twice.
    struct Faulty;

    impl Parallel for Faulty {
        fn threads(&self) -> usize {
            1
        }

        fn run(&self, _count: usize, task: &(dyn Fn(usize) + Sync)) {
            task(0);
            task(0);
        }
    }

    #[test]
    #[should_panic(expected = "task 0 was run twice")]
    fn a_task_that_is_run_twice_panics() {
        run_each_once(&Faulty, 2, &|_| {});
    }
}
