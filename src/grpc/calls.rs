//! What the services for callers have in common, whichever protocol they speak: the model, the one way from a request to
//! vectors, and streams.

use std::future::Future;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::ending::Deadline;
use super::replies::{Replies, replies};
use super::status;
use crate::embed::{Embedded, Embedder};
use crate::request::{EmbedRequest, TextField};
use crate::serving::Serving;

/// What the services of one listener share; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    pub(super) serving: Serving,
    /// The listener is closing: streams end.
    pub(super) stop: CancellationToken,
}

impl Calls {
    pub(super) fn embedder(&self) -> Result<Arc<Embedder>, Status> {
        self.serving.model.get().ok_or_else(status::loading)
    }

    /// The vectors of a checked request whose protocol names its texts so.
    pub(super) async fn embed(
        &self,
        embedder: &Embedder,
        request: &EmbedRequest,
        texts: TextField,
    ) -> Result<Embedded, Status> {
        self.serving.embed(embedder, request).await.map_err(|error| status::from_embed_error(&error, texts))
    }

    /// Replies in the order of the requests; what `refuse` makes of an error is the reply to its request, or the stream's end.
    pub(super) fn stream<Q, R, F>(
        &self,
        request: Request<Streaming<Q>>,
        answer: impl Fn(Q) -> F + Send + 'static,
        refuse: fn(Status) -> Result<R, Status>,
    ) -> Response<Replies<R>>
    where
        Q: Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<R, Status>> + Send + 'static,
    {
        let deadline = Deadline::of(&request);
        Response::new(replies(request.into_inner(), self.stop.clone(), deadline, answer, refuse))
    }
}
