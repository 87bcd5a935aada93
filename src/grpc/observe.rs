//! Call instrumentation: gives every call a request id, counts it with its status code and duration, logs it and, if
//! tracing is on, records a span. This includes calls that never reach a handler.
//!
//! The status code of a reply without messages is in its headers; otherwise it is in the trailers that follow the
//! messages.

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

use super::deadline::Deadline;
use crate::stats::{Method, Stats};
use crate::trace::Traces;
use embedd_proto::request_id::RequestId;

mod in_flight;

use in_flight::InFlightCall;

const STATUS: &str = "grpc-status";

/// Instruments every call of the inner services.
#[derive(Debug, Clone)]
pub(super) struct ObserveLayer {
    pub(super) stats: Stats,
    pub(super) traces: Traces,
}

#[derive(Debug, Clone)]
pub(super) struct ObserveService<S> {
    service: S,
    layer: ObserveLayer,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = ObserveService<S>;

    fn layer(&self, service: S) -> ObserveService<S> {
        ObserveService { service, layer: self.clone() }
    }
}

impl<S, B> Service<Request<B>> for ObserveService<S>
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
        let deadline = Deadline::start(&mut request).map(|Deadline(deadline)| deadline);
        let call = self.layer.stats.call(Method::of_path(request.uri().path()), deadline);
        let id = RequestId::from_headers_or_new(request.headers());
        let span = in_flight::begin_span(&self.layer.traces, call.method(), &id, request.headers());
        // For handlers that log or trace.
        id.insert_into(request.headers_mut());
        span.enter(request.extensions_mut());
        let mut call = InFlightCall::begin(call, id, span);
        let reply = self.service.call(request);
        Box::pin(async move {
            let mut reply = reply.await?;
            let code = code(reply.headers());
            call.add_request_id(reply.headers_mut(), code);
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

/// The messages of a reply. If it is dropped before its end, the caller has disconnected.
struct ObservedBody {
    body: Body,
    call: InFlightCall,
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
                        self.call.add_request_id(trailers, Some(code));
                    }
                    self.call.end(code);
                }
            }
            Some(Err(status)) => self.call.end(status.code()),
            // Not a gRPC reply, since the request was not a gRPC request.
            None => self.call.end(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // Until the call has ended, trailers are still to come.
        self.call.has_ended() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
