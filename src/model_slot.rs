//! The place where request handlers find the model: empty until it is loaded.

use std::sync::{Arc, PoisonError, RwLock};

use crate::embed::Embedder;

/// Shared by all handlers; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ModelSlot(Arc<RwLock<Option<Arc<Embedder>>>>);

impl ModelSlot {
    /// The model being served; a request keeps the one that it began with.
    pub fn get(&self) -> Option<Arc<Embedder>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves another model from now on, and gives back the one before.
    pub fn replace(&self, embedder: Option<Arc<Embedder>>) -> Option<Arc<Embedder>> {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), embedder)
    }
}
