//! Replaces the model being served with another one, without failing a request.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span};

use super::{OperationLock, Operations, ProbeError, Validated, Validation};
use crate::model_slot::Served;
use embedd_common::checksum::Sha256Hex;
use embedd_kernels::give_back_freed_memory;
use embedd_model::accuracy::TextAccuracy;

/// What a reload holds while a model is being loaded: the lock of reloads, and the room for a second model.
type Held = (OperationLock, OwnedSemaphorePermit);

/// How often to check whether the last request of a retired model has finished.
const RETIRE_POLL: Duration = Duration::from_millis(20);

pub(crate) trait ModelLoader: fmt::Debug + Send + Sync {
    /// The folder that a caller named, without links, if bundles may be loaded from it. Blocks.
    ///
    /// # Errors
    /// [`LoadFailure::NotFound`].
    fn find(&self, folder: &Path) -> Result<PathBuf, LoadFailure>;

    /// Loads a bundle and runs its startup self-check. Blocks for seconds; must be called within a runtime.
    ///
    /// # Errors
    /// [`LoadFailure`].
    fn load(&self, folder: &Path) -> Result<Served, LoadFailure>;

    /// Whether a model below the accuracy gate may serve.
    fn allows_inaccurate(&self) -> bool;

    /// How long a reload may take.
    fn time_limit(&self) -> Duration;
}

/// Why a bundle was not loaded. The messages say what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadFailure {
    /// The same for missing folders and those that may not be loaded, so that callers do not learn which ones exist.
    #[error("bundle not found in the folders that the server may load from (see --bundle-roots)")]
    NotFound,
    #[error("{0}")]
    NotABundle(String),
    /// The bundle is damaged, or its model must not serve.
    #[error("{0}")]
    Unfit(String),
    /// Loading failed, but not because of the bundle.
    #[error("{0}")]
    Failed(String),
}

/// Why the previous model stays in service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error("the first model is still being loaded")]
    NotLoaded,
    #[error("another reload is in progress; wait until it has finished")]
    InProgress,
    /// It may never end, for example if the bundle is on a network drive that does not respond.
    #[error("a reload that timed out is still loading its model; wait until it ends, or restart the server")]
    Overdue,
    /// A third model might not fit into memory.
    #[error(
        "the model before the current one has not finished its requests within {0:?} (--reload-timeout); try again when \
         the server is less busy"
    )]
    Draining(Duration),
    #[error("the reload took longer than {0:?} (--reload-timeout); the previous model stays in service")]
    TimedOut(Duration),
    #[error(transparent)]
    Load(#[from] LoadFailure),
    #[error(
        "{failed} of {texts} reference texts are below the accuracy gate of {threshold}: minimum cosine \
         {min_cosine:.5}, for {id}; convert the model again, or start the server with --allow-inaccurate"
    )]
    Inaccurate {
        /// Texts below the gate.
        failed: usize,
        /// Texts compared.
        texts: usize,
        /// The gate.
        threshold: f64,
        min_cosine: f64,
        /// The text with the minimum cosine.
        id: String,
    },
    /// The new model does not answer.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A panic, or shutdown of the server.
    #[error("the reload was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// The result of a successful reload.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reloaded {
    /// The fingerprint of the previous bundle.
    pub previous: Sha256Hex,
    /// The fingerprint of the bundle that is served now.
    pub fingerprint: Sha256Hex,
    /// `None` if the bundle has no reference set.
    pub validation: Option<Validated>,
}

impl Operations {
    /// Loads a bundle next to the one being served (`None`: the same folder again), validates it with its reference set
    /// and serves it from then on. Waits until the model before the current one has finished its requests, so that no more
    /// than two models are in memory. Runs to completion even if the caller disconnects, so that no two reloads ever
    /// overlap.
    ///
    /// # Errors
    /// [`ReloadError`]; the previous model stays in service.
    pub(crate) async fn reload(&self, folder: Option<PathBuf>) -> Result<Reloaded, ReloadError> {
        let lock = self.begin_reload().ok_or_else(|| {
            if self.overdue.load(Ordering::Relaxed) { ReloadError::Overdue } else { ReloadError::InProgress }
        })?;
        let previous = self.served().ok_or(ReloadError::NotLoaded)?;
        let operations = self.clone();
        let reload = async move {
            let result = operations.swap(folder, previous, lock).await;
            if let Err(error) = &result {
                tracing::warn!("model not reloaded; the previous one stays in service: {error}");
            }
            result
        };
        tokio::spawn(reload.in_current_span()).await?
    }

    async fn swap(
        &self,
        folder: Option<PathBuf>,
        previous: Arc<Served>,
        lock: OperationLock,
    ) -> Result<Reloaded, ReloadError> {
        let limit = self.loader.time_limit();
        let deadline = Instant::now() + limit;
        let named = folder.is_some();
        let folder = folder.unwrap_or_else(|| previous.folder.clone());
        let room = timeout_at(deadline, Arc::clone(&self.second_model).acquire_owned()).await;
        let room = room.ok().and_then(Result::ok).ok_or(ReloadError::Draining(limit))?;
        tracing::info!(bundle = ?folder, "reloading the model");
        let (loaded, (_lock, room)) = self.load(folder, named, deadline, (lock, room)).await?;
        let next = Arc::new(loaded.map_err(|error| match error {
            // The caller named no folder, so the argument is not wrong: the folder being served has changed.
            LoadFailure::NotABundle(reason) if !named => LoadFailure::Unfit(reason),
            error => error,
        })?);
        let validated = timeout_at(deadline, self.validate(&next)).await;
        let validation = match validated.unwrap_or(Err(ReloadError::TimedOut(limit))) {
            Ok(validation) => validation,
            Err(error) => {
                retire(next, room);
                return Err(error);
            }
        };
        let fingerprint = next.fingerprint.clone();
        drop(previous);
        // Only the holder of the lock replaces the model.
        let previous = self.model.replace(Some(next)).ok_or(ReloadError::NotLoaded)?;
        let reloaded = Reloaded { previous: previous.fingerprint.clone(), fingerprint, validation };
        tracing::info!(
            previous = reloaded.previous.as_str(),
            fingerprint = reloaded.fingerprint.as_str(),
            "model reloaded"
        );
        retire(previous, room);
        Ok(reloaded)
    }

    /// Loads a bundle on a thread of its own. Returns what it holds, too, unless the deadline expires: loading cannot be
    /// interrupted, so its thread then keeps it, and no other model is loaded in the meantime.
    async fn load(
        &self,
        folder: PathBuf,
        named: bool,
        deadline: Instant,
        held: Held,
    ) -> Result<(Result<Served, LoadFailure>, Held), ReloadError> {
        let loader = Arc::clone(&self.loader);
        let span = Span::current();
        let mut loading = tokio::task::spawn_blocking(move || {
            span.in_scope(|| {
                let folder = if named { loader.find(&folder)? } else { folder };
                loader.load(&folder)
            })
        });
        if let Ok(loaded) = timeout_at(deadline, &mut loading).await {
            return Ok((loaded?, held));
        }
        self.overdue.store(true, Ordering::Relaxed);
        let overdue = Arc::clone(&self.overdue);
        tokio::spawn(async move {
            let (lock, room) = held;
            if let Ok(Ok(served)) = loading.await {
                retire(Arc::new(served), room);
            }
            overdue.store(false, Ordering::Relaxed);
            drop(lock);
        });
        Err(ReloadError::TimedOut(self.loader.time_limit()))
    }

    /// Compares every text of the reference set, using the sessions that will serve.
    async fn validate(&self, next: &Served) -> Result<Option<Validated>, ReloadError> {
        let Ok(validation) = Validation::of_bundle(next, next.threshold()) else {
            tracing::warn!("the bundle has no reference set; the accuracy of its model cannot be checked");
            return Ok(None);
        };
        let validated = validation.run(&next.embedder).await?;
        match inaccurate(&validated) {
            Some(error) if self.loader.allows_inaccurate() => tracing::warn!("{error}"),
            Some(error) => return Err(error),
            None => {}
        }
        Ok(Some(validated))
    }
}

/// The error if a text is below the gate. A set without comparable texts passes: it proves nothing either way.
fn inaccurate(validated: &Validated) -> Option<ReloadError> {
    let accuracy = &validated.accuracy;
    let summary = &accuracy.summary;
    let worst: &TextAccuracy = accuracy.worst(1).first().copied().filter(|worst| !worst.passed)?;
    Some(ReloadError::Inaccurate {
        failed: accuracy.texts.iter().filter(|text| !text.passed).count(),
        texts: summary.texts,
        threshold: summary.threshold,
        min_cosine: worst.cosine,
        id: worst.id.clone(),
    })
}

/// Drops a model once its last request has finished, and then makes `room` for another one. Dropping it joins the
/// sessions' threads and returns memory to the system, which must not block a thread that serves requests.
fn retire(served: Arc<Served>, room: OwnedSemaphorePermit) {
    tokio::spawn(async move {
        // It is no longer in the slot, so the counts can only go down.
        while Arc::strong_count(&served) > 1 || Arc::strong_count(&served.embedder) > 1 {
            tokio::time::sleep(RETIRE_POLL).await;
        }
        let fingerprint = served.fingerprint.clone();
        let dropped = tokio::task::spawn_blocking(move || {
            drop(served);
            give_back_freed_memory();
        });
        // This fails only if the server stops first, which frees the memory anyway.
        let _ = dropped.await;
        drop(room);
        tracing::debug!(fingerprint = fingerprint.as_str(), "model retired");
    });
}
