//! Runs the kernels' tasks on the threads of an ONNX Runtime session.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ort::operator::ComputeContext;

use embedd_kernels::Parallel;

/// The threads of the session that is running a kernel.
pub(super) struct Workers<'c> {
    pub(super) context: &'c ComputeContext,
    /// Includes the calling thread.
    pub(super) threads: usize,
}

impl Parallel for Workers<'_> {
    fn threads(&self) -> usize {
        self.threads
    }

    /// Each thread takes tasks until none are left, so a delayed thread delays only its current task.
    fn run(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let workers = self.threads.min(count);
        if workers <= 1 {
            (0..count).for_each(task);
            return;
        }
        let next = AtomicUsize::new(0);
        let panic: Mutex<Option<Box<dyn Any + Send>>> = Mutex::new(None);
        // A panic must not unwind through ONNX Runtime's frames: it is caught here and resumed after they return.
        let work = |_| {
            let tasks = AssertUnwindSafe(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    task(number);
                }
            });
            if let Err(payload) = catch_unwind(tasks) {
                next.store(count, Ordering::Relaxed);
                *panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
            }
        };
        // If the thread pool is not available, this thread runs all tasks.
        if self.context.par_for(workers, workers, work).is_err() {
            work(0);
        }
        if let Some(payload) = panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(payload);
        }
    }
}
