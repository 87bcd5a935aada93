//! Shared by the embedding services of all protocols: the model, the path from a request to vectors, and streams.

use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::deadline::Deadline;
use super::replies::{Replies, replies};
use super::status;
use crate::caller::Caller;
use crate::embed::{Embedded, Embedder};
use crate::net;
use crate::request::{EmbedRequest, TextField};
use crate::serving::Serving;
use crate::trace::Span;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    pub(super) serving: Serving,
    /// Cancelled when the listener closes, which ends streams.
    pub(super) stop: CancellationToken,
}

impl Calls {
    pub(super) fn embedder(&self) -> Result<Arc<Embedder>, Status> {
        self.serving.model.get().ok_or_else(status::loading)
    }

    /// The caller of a request.
    pub(super) fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let caller = self.serving.caller(request.extensions(), request.metadata().as_ref());
        caller.map_err(|violations| status::invalid(&violations))
    }

    /// The vectors of a validated request. Errors refer to its texts by the field `texts`; `call` is the call's span.
    pub(super) async fn embed(
        &self,
        embedder: &Embedder,
        request: EmbedRequest,
        texts: TextField,
        caller: &Caller,
        call: &Span,
    ) -> Result<Embedded, Status> {
        let embedded = self.serving.embed(embedder, request, size_of::<f32>(), caller, call).await;
        embedded.map_err(|error| status::from_embed_error(&error, texts))
    }

    /// A stream of replies, in the order of the requests. `on_error` turns the status of a failed request into its
    /// reply, or ends the stream.
    pub(super) fn stream<S, Q, R, F>(
        &self,
        request: Request<Streaming<Q>>,
        service: &S,
        answer: impl Fn(S, Q, Caller, Span) -> F + Send + 'static,
        on_error: fn(Status) -> Result<R, Status>,
    ) -> Result<Response<Replies<R>>, Status>
    where
        S: Clone + Send + 'static,
        Q: Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<R, Status>> + Send + 'static,
    {
        let deadline = Deadline::of(&request);
        let caller = self.caller(&request)?.of_stream();
        let call = Span::of(request.extensions());
        let service = service.clone();
        let memory = caller.call.clone();
        let waiting = memory.clone();
        let requests = request.into_inner().then(move |request| {
            let call = waiting.clone();
            async move {
                if let Some(call) = call {
                    call.until_reserved().await;
                }
                request
            }
        });
        let answer = move |request| {
            let processing = memory.as_ref().map(net::Call::take_received);
            let answered = answer(service.clone(), request, caller.clone(), call.clone());
            async move {
                let answered = answered.await;
                drop(processing);
                answered
            }
        };
        Ok(Response::new(replies(requests, self.stop.clone(), deadline, answer, on_error)))
    }
}

/// The violation of a field whose value is not in its enum.
pub(super) fn unknown_value(value: i32) -> String {
    format!("is {value}, which is not a value of the enum")
}
