//! How kernels divide work among threads that their caller owns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// A thread pool that runs a kernel's tasks.
pub trait Parallel {
    /// The number of threads, including the caller; at least 1.
    fn threads(&self) -> usize;

    /// Calls `task` exactly once for every number below `count`, on any thread and in any order, and returns when all
    /// calls have finished.
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync));
}

/// [`Parallel::run`] for tasks whose memory safety depends on running only once. If a faulty `parallel` runs a task
/// twice, the second run panics before the task begins.
pub(super) fn run_each_once(parallel: &dyn Parallel, count: usize, task: &(dyn Fn(usize) + Sync)) {
    let claimed: Vec<AtomicBool> = (0..count).map(|_| AtomicBool::new(false)).collect();
    parallel.run(count, &|number| {
        assert!(!claimed[number].swap(true, Ordering::Relaxed), "task {number} ran twice");
        task(number);
    });
}

/// Calls `work` once for each part, with the part's number, in any order. If there is only one part or one thread, the
/// calling thread does all the work. Each part goes to only one thread: if a faulty `parallel` runs a task twice, the
/// second run panics before its work begins.
pub(super) fn share_out<P: Send>(
    parallel: &dyn Parallel,
    parts: impl ExactSizeIterator<Item = P>,
    work: &(dyn Fn(usize, P) + Sync),
) {
    if parts.len() == 1 || parallel.threads() == 1 {
        return parts.enumerate().for_each(|(number, part)| work(number, part));
    }
    // A lock per part costs only nanoseconds.
    let parts: Vec<_> = parts.map(|part| Mutex::new(Some(part))).collect();
    parallel.run(parts.len(), &|number| {
        let part = parts[number].lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(part) = part else { panic!("task {number} ran twice") };
        work(number, part);
    });
}

/// Runs all tasks on the calling thread.
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
    #[should_panic(expected = "task 0 ran twice")]
    fn running_a_task_twice_panics() {
        run_each_once(&Faulty, 2, &|_| {});
    }

    #[test]
    #[should_panic(expected = "task 0 ran twice")]
    fn taking_a_part_twice_panics() {
        share_out(&Faulty, [1, 2].iter_mut(), &|_, _| {});
    }

    #[test]
    fn every_part_is_processed_once_with_its_number_for_any_number_of_threads() {
        for threads in [1, 2, 5] {
            for count in [0, 1, 2, 7, 30] {
                let mut parts = vec![100; count];
                share_out(&Shuffled { threads, seed: 1 }, parts.iter_mut(), &|number, part| *part += number);
                assert!(parts.iter().enumerate().all(|(number, part)| *part == 100 + number), "{threads}, {count}");
            }
        }
    }
}
