//! Every call has an id and, where that is wanted, a span, and is counted with its code and its time, also those that no
//! handler gets to see.
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
use crate::stats::{Method, Stats};
use crate::trace::Traces;
use embedd_proto::request_id::RequestId;

mod under_way;

use under_way::UnderWay;

const STATUS: &str = "grpc-status";

/// Counts every call of the services behind it, and begins its trace.
#[derive(Debug, Clone)]
pub(super) struct ObserveLayer {
    pub(super) stats: Stats,
    pub(super) traces: Traces,
}

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub(super) struct Observed<S> {
    service: S,
    layer: ObserveLayer,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observed<S>;

    fn layer(&self, service: S) -> Observed<S> {
        Observed { service, layer: self.clone() }
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let deadline = Deadline::of_headers(request.headers()).map(|Deadline(deadline)| deadline);
        let call = self.layer.stats.call(Method::of_path(request.uri().path()), deadline);
        let id = RequestId::of(request.headers());
        let span = under_way::begin_span(&self.layer.traces, call.method(), &id, request.headers());
        // Handlers that log or trace find them there.
        id.tell(request.headers_mut());
        span.enter(request.extensions_mut());
        let mut call = UnderWay::begin(call, id, span);
        let reply = self.service.call(request);
        Box::pin(async move {
            let mut reply = reply.await?;
            let code = code(reply.headers());
            call.name(reply.headers_mut(), code);
            match code {
                Some(code) => {
                    call.end(code);
                    Ok(reply)
                }
                None => Ok(reply.map(|body| Body::new(ObservedBody { body, call }))),
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
    call: UnderWay,
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &mut frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    let code = code(trailers).unwrap_or(Code::Unknown);
                    if code != Code::Ok {
                        self.call.name(trailers, Some(code));
                    }
                    self.call.end(code);
                }
            }
            Some(Err(status)) => self.call.end(status.code()),
            // Not a reply of gRPC: the request was none.
            None => self.call.end(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // What has not told its end yet has trailers to come.
        self.call.has_ended() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
