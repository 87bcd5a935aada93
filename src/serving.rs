//! Runs validated requests; shared by all ports and protocols.

use tokio_util::task::TaskTracker;

use crate::embed::{EmbedError, Embedded, Embedder};
use crate::model_slot::ModelSlot;
use crate::request::EmbedRequest;
use crate::stats::Stats;
use crate::trace::Span;

/// The state shared by all request handlers; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    pub model: ModelSlot,
    /// Holds a token for each request in flight.
    pub requests: TaskTracker,
    pub stats: Stats,
}

impl Serving {
    /// Embeds the texts of a request as part of a call. Dropping the future cancels work that no other call needs.
    ///
    /// # Errors
    /// [`EmbedError`].
    pub(crate) async fn embed(
        &self,
        embedder: &Embedder,
        request: &EmbedRequest,
        call: &Span,
    ) -> Result<Embedded, EmbedError> {
        let _in_flight = self.requests.token();
        let embedded = embedder.embed(request).await?;
        embedded.timings.record(&self.stats);
        embedded.trace(call);
        Ok(embedded)
    }
}
