//! Texts that the server embeds on behalf of those who run it.

use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::batch::BatchError;
use crate::embed::{EmbedError, Embedded, Embedder};
use crate::request::{EmbedOptions, EmbedRequest, Limits, Violations};

/// A full queue is full of texts of callers: they go first, and this long at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before the queue is tried again: some batches.
const PAUSE: Duration = Duration::from_millis(50);

/// Why a text of the server's own was not embedded.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ProbeError {
    /// As for any request.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// Callers keep the model busy.
    #[error("the queue has been full of other texts for {PATIENCE:?}; try again when there is less to do")]
    Busy,
    /// No text can be made that has so many tokens.
    #[error("no text of exactly {0} tokens was found for this model's tokeniser; measure another number of tokens")]
    NoText(usize),
}

/// Texts for the model that is served: checked as those of a request are, but for the limits of size, which bound what
/// callers may ask for.
#[derive(Debug, Clone)]
pub(super) struct Probe(Option<EmbedRequest>);

impl Probe {
    /// Texts that are too long lose their end, as with PyTorch.
    pub(super) fn of(texts: Vec<String>, embedder: &Embedder) -> Self {
        let limits =
            Limits { max_texts: NonZeroUsize::MAX, max_text_bytes: usize::MAX, dimension: embedder.limits().dimension };
        let mut violations = Violations::default();
        // The cache must not answer in place of the model.
        let options = EmbedOptions { skip_cache: true, ..EmbedOptions::default() };
        Self(EmbedRequest::check(texts, options, &limits, &mut violations))
    }

    /// Waits while the queue is full. `None` where there are no texts.
    pub(super) async fn embed(&self, embedder: &Embedder) -> Result<Option<Embedded>, ProbeError> {
        let Some(request) = &self.0 else { return Ok(None) };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match embedder.embed(request).await {
                Err(EmbedError::Batch(BatchError::QueueFull { .. })) if Instant::now() < deadline => sleep(PAUSE).await,
                Err(EmbedError::Batch(BatchError::QueueFull { .. })) => return Err(ProbeError::Busy),
                result => return Ok(Some(result?)),
            }
        }
    }
}
