//! Every call is counted with its code and its time, also those that no handler gets to see.
//!
//! The code stands in the headers of a reply that is refused at once, and else in the trailers behind its messages.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Frame, SizeHint};
use prost::bytes::Bytes;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::ending::Deadline;
use crate::stats::{Call, Method, Stats};

const STATUS: &str = "grpc-status";

/// Counts every call of the services behind it.
#[derive(Debug, Clone)]
pub(super) struct ObserveLayer(pub(super) Stats);

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub(super) struct Observed<S> {
    service: S,
    stats: Stats,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observed<S>;

    fn layer(&self, service: S) -> Observed<S> {
        Observed { service, stats: self.0.clone() }
    }
}

impl<S, B> Service<Request<B>> for Observed<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let deadline = Deadline::of_headers(request.headers()).map(|Deadline(deadline)| deadline);
        let call = self.stats.call(Method::of_path(request.uri().path()), deadline);
        let reply = self.service.call(request);
        Box::pin(async move {
            let reply = reply.await?;
            match code(reply.headers()) {
                Some(code) => {
                    call.end(code.into());
                    Ok(reply)
                }
                None => Ok(reply.map(|body| Body::new(ObservedBody { body, call: Some(call) }))),
            }
        })
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

/// The messages of a reply. Dropped before its end, the caller has left.
struct ObservedBody {
    body: Body,
    call: Option<Call>,
}

impl ObservedBody {
    fn end(&mut self, code: Code) {
        if let Some(call) = self.call.take() {
            call.end(code.into());
        }
    }
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.end(code(trailers).unwrap_or(Code::Unknown));
                }
            }
            Some(Err(status)) => self.end(status.code()),
            // Not a reply of gRPC: the request was none.
            None => self.end(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // What has not told its end yet has trailers to come.
        self.call.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
