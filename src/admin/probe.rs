//! Requests that the server sends to its own model, for admin operations.

use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::batch::BatchError;
use crate::caller::Caller;
use crate::embed::{EmbedError, Embedded, Embedder};
use crate::request::{EmbedOptions, EmbedRequest, Limits, Violations};
use embedd_model::PromptChoice;

/// How long a probe waits while callers' texts, which go first, fill the queue.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before the queue is tried again: a few batches.
const RETRY_DELAY: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error(transparent)]
    Embed(#[from] EmbedError),
    #[error("the queue has been full for {PATIENCE:?}; try again when the server is less busy")]
    Busy,
    #[error("no text of exactly {0} tokens was found for this model's tokenizer; choose another number of tokens")]
    NoText(usize),
}

/// A request to the model being served. It is checked like a caller's request, but without the size limits, which exist
/// to restrict callers.
#[derive(Debug, Clone)]
pub(super) struct Probe(Option<EmbedRequest>);

impl Probe {
    /// Texts that are too long are truncated at the end, as PyTorch does.
    pub(super) fn of(texts: Vec<String>, prompt: PromptChoice, embedder: &Embedder) -> Self {
        let limits = Limits { max_texts: NonZeroUsize::MAX, max_text_bytes: usize::MAX, ..*embedder.limits() };
        let mut violations = Violations::default();
        // The model must answer, not the cache.
        let options = EmbedOptions { prompt, skip_cache: true, ..EmbedOptions::default() };
        Self(EmbedRequest::check(texts, options, &limits, &embedder.model().prompts, &mut violations))
    }

    /// Waits while the queue is full. `None` if there are no texts.
    pub(super) async fn embed(&self, embedder: &Embedder) -> Result<Option<Embedded>, ProbeError> {
        let Some(request) = &self.0 else { return Ok(None) };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match embedder.embed(request, &Caller::server()).await {
                Err(EmbedError::Batch(BatchError::QueueFull { .. })) if Instant::now() < deadline => {
                    sleep(RETRY_DELAY).await;
                }
                Err(EmbedError::Batch(BatchError::QueueFull { .. })) => return Err(ProbeError::Busy),
                result => return Ok(Some(result?)),
            }
        }
    }
}
