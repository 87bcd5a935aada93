//! What those who run the server may do with it: compare, measure, reload.
//!
//! All of it goes the way of a request, through the queue of the model being served, and gives way there to callers:
//! a comparison has one text in the queue at a time; a benchmark has a bounded number of them, and none more while
//! texts of others wait (see [`benchmark`]).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model_slot::{ModelSlot, Served};
use crate::stats::Stats;

pub(crate) mod benchmark;
mod filler;
mod probe;
mod reload;
mod validate;

pub(crate) use probe::ProbeError;
pub(crate) use reload::{LoadFailure, ModelLoader, ReloadError, Reloaded};
pub(crate) use validate::{NoReference, Validated, Validation};

/// The model, what loads another, and what is told of both; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Operations {
    model: ModelSlot,
    loader: Arc<dyn ModelLoader>,
    stats: Stats,
    benchmarks: Turn,
    reloads: Turn,
}

/// Something that is done by one at a time.
#[derive(Debug, Clone)]
struct Turn(Arc<Semaphore>);

/// Held while it is done.
#[derive(Debug)]
pub(crate) struct Held(#[allow(dead_code, reason = "it is held")] OwnedSemaphorePermit);

impl Operations {
    /// Puts the parts together.
    pub(crate) fn new(model: ModelSlot, loader: Arc<dyn ModelLoader>, stats: Stats) -> Self {
        Self { model, loader, stats, benchmarks: Turn::new(), reloads: Turn::new() }
    }

    /// The model being served, once there is one.
    pub(crate) fn served(&self) -> Option<Arc<Served>> {
        self.model.served()
    }

    /// What the server has been doing.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The right to measure; `None` while another does.
    pub(crate) fn begin_benchmark(&self) -> Option<Held> {
        self.benchmarks.take()
    }
}

impl Turn {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    fn take(&self) -> Option<Held> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(Held)
    }
}
