//! Another model in place of the one being served, without a request failing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{Instrument as _, Span};

use super::{Held, Operations, ProbeError, Validated, Validation};
use crate::model_slot::Served;
use embedd_common::checksum::Sha256Hex;
use embedd_kernels::give_back_freed_memory;
use embedd_model::accuracy::TextAccuracy;

/// How often to see whether the requests of a model that is no longer served have ended.
const RETIRING_POLL: Duration = Duration::from_millis(20);

/// Makes a model of a bundle.
pub(crate) trait ModelLoader: fmt::Debug + Send + Sync {
    /// Loads the bundle and lets it check itself. Blocks for seconds, within a runtime.
    ///
    /// # Errors
    /// [`LoadFailure`].
    fn load(&self, folder: &Path) -> Result<Served, LoadFailure>;

    /// Whether a model below the gate may serve.
    fn allows_inaccurate(&self) -> bool;
}

/// Why a bundle was not loaded. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadFailure {
    /// The folder is not there.
    #[error("there is no folder {0} on the server's machine")]
    NoSuchFolder(PathBuf),
    /// The folder is no bundle.
    #[error("{0}")]
    NotABundle(String),
    /// The bundle is damaged, or its model must not serve.
    #[error("{0}")]
    Unfit(String),
    /// The bundle may be right.
    #[error("{0}")]
    Failed(String),
}

/// Why the old model goes on serving.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// The first model is still being loaded.
    #[error("the first model is still being loaded")]
    NotLoaded,
    /// One at a time.
    #[error("another reload is under way; wait for its end")]
    UnderWay,
    /// The bundle was not loaded.
    #[error(transparent)]
    Load(#[from] LoadFailure),
    /// Its model failed on the reference set.
    #[error(
        "{failed} of {texts} reference texts are below the gate of {threshold}: least cosine {least:.5}, of {id}; \
         convert the model again, or start the server with --allow-inaccurate"
    )]
    Inaccurate {
        /// Texts below the gate.
        failed: usize,
        /// Texts that were compared.
        texts: usize,
        /// The gate.
        threshold: f64,
        /// The least cosine.
        least: f64,
        /// Its text.
        id: String,
    },
    /// Its model does not answer.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A panic, or the end of the server.
    #[error("the reload was cut short: {0}")]
    Cut(#[from] tokio::task::JoinError),
}

/// Another model serves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reloaded {
    /// The fingerprint of the bundle before.
    pub previous: Sha256Hex,
    /// The fingerprint of the bundle that serves now.
    pub fingerprint: Sha256Hex,
    /// How it compared with its reference set, where it has one.
    pub validation: Option<Validated>,
}

impl Operations {
    /// Loads a bundle beside the one being served (`None`: the same folder, read again), compares it with its reference
    /// set, and serves it from then on. Goes on to its end where its caller leaves, so that no two are ever loaded at
    /// once.
    ///
    /// # Errors
    /// [`ReloadError`]; the old model goes on serving.
    pub(crate) async fn reload(&self, folder: Option<PathBuf>) -> Result<Reloaded, ReloadError> {
        let turn = self.reloads.take().ok_or(ReloadError::UnderWay)?;
        let previous = self.served().ok_or(ReloadError::NotLoaded)?;
        let operations = self.clone();
        let work = async move {
            let result = operations.swap(folder, previous, turn).await;
            if let Err(error) = &result {
                tracing::warn!("the model was not reloaded, the one before goes on serving: {error}");
            }
            result
        };
        tokio::spawn(work.in_current_span()).await?
    }

    async fn swap(&self, folder: Option<PathBuf>, previous: Arc<Served>, _turn: Held) -> Result<Reloaded, ReloadError> {
        let named = folder.is_some();
        let folder = folder.unwrap_or_else(|| previous.folder.clone());
        tracing::info!(bundle = %folder.display(), "reloading the model");
        let next = Arc::new(self.load(folder).await.map_err(|error| match error {
            // Nobody asked for that folder: it is the one being served that has changed.
            ReloadError::Load(LoadFailure::NotABundle(reason)) if !named => LoadFailure::Unfit(reason).into(),
            error => error,
        })?);
        let validation = match self.compare(&next).await {
            Ok(validation) => validation,
            Err(error) => {
                retire(next);
                return Err(error);
            }
        };
        let fingerprint = next.fingerprint.clone();
        drop(previous);
        // Nobody else replaces a model while this one has its turn.
        let previous = self.model.replace(Some(next)).ok_or(ReloadError::NotLoaded)?;
        let reloaded = Reloaded { previous: previous.fingerprint.clone(), fingerprint, validation };
        tracing::info!(
            previous = reloaded.previous.as_str(),
            fingerprint = reloaded.fingerprint.as_str(),
            "model reloaded"
        );
        retire(previous);
        Ok(reloaded)
    }

    async fn load(&self, folder: PathBuf) -> Result<Served, ReloadError> {
        let (loader, span) = (Arc::clone(&self.loader), Span::current());
        Ok(tokio::task::spawn_blocking(move || span.in_scope(|| loader.load(&folder))).await??)
    }

    /// Every text of the reference set, with the sessions that are to serve.
    async fn compare(&self, next: &Served) -> Result<Option<Validated>, ReloadError> {
        let Ok(validation) = Validation::of_bundle(next, next.threshold()) else {
            tracing::warn!("the bundle has no reference set: nothing tells whether its model is right");
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

/// A set of which no text could be compared says nothing.
fn inaccurate(validated: &Validated) -> Option<ReloadError> {
    let (accuracy, summary) = (&validated.accuracy, &validated.accuracy.summary);
    let worst: &TextAccuracy = accuracy.worst(1).first().copied().filter(|worst| !worst.passed)?;
    Some(ReloadError::Inaccurate {
        failed: accuracy.texts.iter().filter(|text| !text.passed).count(),
        texts: summary.texts,
        threshold: summary.threshold,
        least: worst.cosine,
        id: worst.id.clone(),
    })
}

/// Lets a model end with the last of its requests. Its end waits for the sessions' threads and gives back memory, which
/// must not hold up a thread that serves requests.
fn retire(served: Arc<Served>) {
    tokio::spawn(async move {
        // Out of its slot, nobody can come to hold it any more.
        while Arc::strong_count(&served) > 1 || Arc::strong_count(&served.embedder) > 1 {
            tokio::time::sleep(RETIRING_POLL).await;
        }
        let fingerprint = served.fingerprint.clone();
        // A server that is stopping may not get to it.
        let ended = tokio::task::spawn_blocking(move || {
            drop(served);
            give_back_freed_memory();
        });
        let _ = ended.await;
        tracing::debug!(fingerprint = fingerprint.as_str(), "the model before has ended");
    });
}
