//! Holds the model being served; empty until the first one is loaded.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use crate::embed::Embedder;
use embedd_common::checksum::Sha256Hex;
use embedd_model::accuracy::DEFAULT_THRESHOLD;
use embedd_model::reference::ReferenceSet;

/// Shared by all handlers; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelSlot(Arc<RwLock<Option<Arc<Served>>>>);

/// A model being served, with its bundle.
#[derive(Debug)]
pub(crate) struct Served {
    pub embedder: Arc<Embedder>,
    /// The bundle's folder, whose contents may have changed since.
    pub folder: PathBuf,
    /// The bundle's fingerprint when it was loaded.
    pub fingerprint: Sha256Hex,
    /// The bundle's reference set, if it has one.
    pub reference: Option<Arc<ReferenceSet>>,
}

impl ModelSlot {
    /// The model being served. A request keeps the one that it started with.
    pub(crate) fn get(&self) -> Option<Arc<Embedder>> {
        self.served().map(|served| Arc::clone(&served.embedder))
    }

    /// Like [`get`](Self::get), with the bundle.
    pub(crate) fn served(&self) -> Option<Arc<Served>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves another model from now on and returns the previous one.
    pub(crate) fn replace(&self, served: Option<Arc<Served>>) -> Option<Arc<Served>> {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), served)
    }
}

impl Served {
    /// The accuracy gate: the minimum cosine to the reference with which the model was accepted.
    pub(crate) fn threshold(&self) -> f64 {
        self.embedder.model().accuracy.map_or(DEFAULT_THRESHOLD, |accuracy| accuracy.threshold)
    }
}
