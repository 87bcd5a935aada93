//! The place where request handlers find the model: empty until it is loaded.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use crate::embed::Embedder;
use embedd_common::checksum::Sha256Hex;
use embedd_model::accuracy::DEFAULT_THRESHOLD;
use embedd_model::reference::ReferenceSet;

/// Shared by all handlers; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelSlot(Arc<RwLock<Option<Arc<Served>>>>);

/// A model that serves, and where it comes from.
#[derive(Debug)]
pub(crate) struct Served {
    /// What answers.
    pub embedder: Arc<Embedder>,
    /// The bundle's folder, which may have changed since.
    pub folder: PathBuf,
    /// The bundle's fingerprint when it was loaded.
    pub fingerprint: Sha256Hex,
    /// The bundle's reference set, where it has one.
    pub reference: Option<ReferenceSet>,
}

impl ModelSlot {
    /// The model being served; a request keeps the one that it began with.
    pub(crate) fn get(&self) -> Option<Arc<Embedder>> {
        self.served().map(|served| Arc::clone(&served.embedder))
    }

    /// As [`get`](Self::get), with where it comes from.
    pub(crate) fn served(&self) -> Option<Arc<Served>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves another model from now on, and gives back the one before.
    pub(crate) fn replace(&self, served: Option<Arc<Served>>) -> Option<Arc<Served>> {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), served)
    }
}

impl Served {
    /// The least cosine to the reference that a text must have: what the model was accepted with.
    pub(crate) fn threshold(&self) -> f64 {
        self.embedder.model().accuracy.map_or(DEFAULT_THRESHOLD, |accuracy| accuracy.threshold)
    }
}
