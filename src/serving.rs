//! What becomes of a checked request, by whichever port and protocol it came.

use tokio_util::task::TaskTracker;

use crate::embed::{EmbedError, Embedded, Embedder};
use crate::model_slot::ModelSlot;
use crate::request::EmbedRequest;
use crate::stats::Stats;
use crate::trace::Span;

/// What all who answer callers share; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    /// The model, once it is loaded.
    pub model: ModelSlot,
    /// Holds a token for each request under way.
    pub requests: TaskTracker,
    /// Where stages are counted.
    pub stats: Stats,
}

impl Serving {
    /// The vectors of a request, as a part of a call. Dropped before it is done, what only it waited for is not computed.
    ///
    /// # Errors
    /// [`EmbedError`].
    pub(crate) async fn embed(
        &self,
        embedder: &Embedder,
        request: &EmbedRequest,
        call: &Span,
    ) -> Result<Embedded, EmbedError> {
        let _under_way = self.requests.token();
        let embedded = embedder.embed(request).await?;
        embedded.timings.record(&self.stats);
        embedded.trace(call);
        Ok(embedded)
    }
}
