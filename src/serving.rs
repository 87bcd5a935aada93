//! Runs validated requests; shared by all ports and protocols.

use http::{Extensions, HeaderMap};
use tokio_util::task::TaskTracker;

use crate::caller::{Caller, Priority};
use crate::embed::{EmbedError, Embedded, Embedder};
use crate::model_slot::ModelSlot;
use crate::request::{EmbedRequest, Violations};
use crate::stats::Stats;
use crate::trace::Span;

/// The state shared by all request handlers; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    pub model: ModelSlot,
    /// Holds a token for each request in flight.
    pub requests: TaskTracker,
    pub stats: Stats,
    /// The priority of requests that set none.
    pub default_priority: Priority,
}

impl Serving {
    /// The caller of a request with these extensions and headers.
    ///
    /// # Errors
    /// If its priority is unknown.
    pub(crate) fn caller(&self, extensions: &Extensions, headers: &HeaderMap) -> Result<Caller, Violations> {
        Caller::of(extensions, headers, self.default_priority)
    }

    /// Embeds the texts of a request as part of a call. Dropping the future cancels work that no other call needs.
    ///
    /// Memory for the whole reply is reserved at once, with `bytes_per_float` for each component: a call that held a part
    /// while it waits for another could wait forever. A request for more texts than the model's limit, which only some
    /// protocols allow, is embedded in parts: the first one is refused if the queue is full, and the others wait.
    ///
    /// # Errors
    /// [`EmbedError`].
    pub(crate) async fn embed(
        &self,
        embedder: &Embedder,
        request: EmbedRequest,
        bytes_per_float: usize,
        caller: &Caller,
        call: &Span,
    ) -> Result<Embedded, EmbedError> {
        let _in_flight = self.requests.token();
        let _quota = caller.use_quota(request.inputs().len()).await?;
        let reservation = caller.reserve_reply(reply_bytes(&request, bytes_per_float)).await?;
        let mut embedded = Embedded::default();
        let max_texts = embedder.limits().max_texts;
        let waiting = (request.inputs().len() > max_texts.get()).then(|| caller.clone().of_stream());
        for part in request.in_parts(max_texts) {
            let is_first = embedded.embeddings.is_empty();
            let caller = waiting.as_ref().filter(|_| !is_first).unwrap_or(caller);
            let first = embedded.embeddings.len();
            let part = embedder.embed(&part, caller).await.map_err(|error| error.in_part(first))?;
            part.timings.record(&self.stats);
            part.trace(call);
            embedded.append(part);
        }
        caller.replies(reservation);
        self.stats.record_request(embedded.embeddings.len(), embedded.timings.total);
        Ok(embedded)
    }
}

/// The size of the reply to a request, more or less: floats, and for each text its other fields.
fn reply_bytes(request: &EmbedRequest, bytes_per_float: usize) -> usize {
    request.inputs().len() * (request.dimensions() * bytes_per_float + 64)
}
