//! How kernels share their work among threads without knowing whose threads they are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

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

/// Calls `work` once with the number of each of `parts` and the part itself, in any order; on the calling thread where
/// there is one part or one thread. Whatever `parallel` is, no part is ever in two threads: a task that is run twice
/// panics before its work begins.
pub(super) fn share_out<P: Send>(
    parallel: &dyn Parallel,
    parts: impl ExactSizeIterator<Item = P>,
    work: &(dyn Fn(usize, P) + Sync),
) {
    if parts.len() == 1 || parallel.threads() == 1 {
        return parts.enumerate().for_each(|(number, part)| work(number, part));
    }
    // A lock for each part costs nanoseconds.
    let parts: Vec<_> = parts.map(|part| Mutex::new(Some(part))).collect();
    parallel.run(parts.len(), &|number| {
        let part = parts[number].lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(part) = part else { panic!("task {number} was run twice") };
        work(number, part);
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
    use crate::testing::Shuffled;

    /// Runs the first task twice.
    struct Faulty;

    impl Parallel for Faulty {
        fn threads(&self) -> usize {
            2
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

    #[test]
    #[should_panic(expected = "task 0 was run twice")]
    fn a_part_that_is_asked_for_twice_panics() {
        share_out(&Faulty, [1, 2].iter_mut(), &|_, _| {});
    }

    #[test]
    fn every_part_is_worked_on_once_with_its_number_by_any_number_of_threads() {
        for threads in [1, 2, 5] {
            for count in [0, 1, 2, 7, 30] {
                let mut parts = vec![100; count];
                share_out(&Shuffled { threads, seed: 1 }, parts.iter_mut(), &|number, part| *part += number);
                assert!(parts.iter().enumerate().all(|(number, part)| *part == 100 + number), "{threads}, {count}");
            }
        }
    }
}
