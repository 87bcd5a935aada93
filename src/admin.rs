//! Admin operations on a running server: validate, benchmark, reload.
//!
//! All of them use the queue of the model being served, at lower priority than callers: a validation has one text in
//! the queue at a time; a benchmark has a bounded number, and waits while callers' texts are queued (see
//! [`benchmark`]).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};

use crate::model_slot::{ModelSlot, Served};
use crate::stats::Stats;

pub(crate) mod benchmark;
mod probe;
mod reload;
mod sample_texts;
mod validate;

pub(crate) use probe::ProbeError;
pub(crate) use reload::{LoadFailure, ModelLoader, ReloadError, Reloaded};
pub(crate) use validate::{NoReference, Validated, Validation};

/// Held while an operation runs that excludes others of its kind.
pub(crate) type OperationLock = OwnedMutexGuard<()>;

/// The admin operations and the state they need; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Operations {
    model: ModelSlot,
    loader: Arc<dyn ModelLoader>,
    stats: Stats,
    benchmarks: Arc<Mutex<()>>,
    reloads: Arc<Mutex<()>>,
    /// Has room for one model besides the one that is served: the next one while it is being loaded, or the previous one
    /// until its last request has finished.
    second_model: Arc<Semaphore>,
    /// Whether a reload that timed out is still loading its model, which holds the lock.
    overdue: Arc<AtomicBool>,
}

impl Operations {
    pub(crate) fn new(model: ModelSlot, loader: Arc<dyn ModelLoader>, stats: Stats) -> Self {
        Self {
            model,
            loader,
            stats,
            benchmarks: Arc::default(),
            reloads: Arc::default(),
            second_model: Arc::new(Semaphore::new(1)),
            overdue: Arc::default(),
        }
    }

    /// The model being served; `None` until the first one is loaded.
    pub(crate) fn served(&self) -> Option<Arc<Served>> {
        self.model.served()
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Permission to run a benchmark; `None` while another one runs.
    pub(crate) fn begin_benchmark(&self) -> Option<OperationLock> {
        Arc::clone(&self.benchmarks).try_lock_owned().ok()
    }

    fn begin_reload(&self) -> Option<OperationLock> {
        Arc::clone(&self.reloads).try_lock_owned().ok()
    }
}
