//! tonic's own health service answers INTERNAL to a message that cannot be decoded, and never for another reason. Callers
//! need no token for it, so everyone could make the server look faulty.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::TryFutureExt as _;
use futures_util::future::MapOk;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;

use crate::grpc::status;

/// Turns INTERNAL into INVALID_ARGUMENT.
#[derive(Debug, Clone)]
pub(in crate::grpc) struct BlameCaller<S>(pub(super) S);

impl<S: NamedService> NamedService for BlameCaller<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, Q, B> Service<Request<Q>> for BlameCaller<S>
where
    S: Service<Request<Q>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = MapOk<S::Future, fn(Response<B>) -> Response<B>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        self.0.call(request).map_ok(blame_caller)
    }
}

/// The status of a call whose message cannot be decoded is in the headers.
fn blame_caller<B>(mut response: Response<B>) -> Response<B> {
    let status = Status::from_header_map(response.headers());
    if status.is_some_and(|status| status.code() == Code::Internal) {
        // A short text is always a valid header.
        let _ = status::undecodable().add_header(response.headers_mut());
    }
    response
}
