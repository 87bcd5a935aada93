//! Ends calls that do not end by themselves: at their deadline with DEADLINE_EXCEEDED, and after a panic with INTERNAL.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

use super::status;

const TIMEOUT_HEADER: &str = "grpc-timeout";

/// The time at which the caller of a request stops waiting, kept in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(pub(super) Instant);

impl Deadline {
    /// The deadline of a request that has passed the layers.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Option<Self> {
        request.extensions().get().copied()
    }

    /// The deadline of a request that starts now. The first layer to ask parses the header; the others find the result
    /// in the extensions.
    pub(super) fn start<B>(request: &mut Request<B>) -> Option<Self> {
        let known = request.extensions().get().copied();
        known.or_else(|| {
            let timeout = timeout(request.headers())?;
            let deadline = Self(Instant::now() + timeout);
            request.extensions_mut().insert(deadline);
            Some(deadline)
        })
    }
}

/// Applies deadlines, and turns panics into INTERNAL.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeadlineLayer;

#[derive(Debug, Clone)]
pub(super) struct DeadlineService<S>(S);

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService(inner)
    }
}

impl<S, B> Service<Request<B>> for DeadlineService<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let deadline = Deadline::start(&mut request);
        let call = catch_panic(self.0.call(request));
        Box::pin(async move {
            let reply = match deadline {
                Some(deadline) => before(deadline, call).await.flatten(),
                None => call.await,
            };
            reply.unwrap_or_else(|status| Ok(status.into_http()))
        })
    }
}

/// The future's output, or DEADLINE_EXCEEDED. Work whose deadline has passed already is not started.
async fn before<T>(Deadline(deadline): Deadline, work: impl Future<Output = T>) -> Result<T, Status> {
    if deadline <= Instant::now() {
        return Err(status::deadline_exceeded());
    }
    tokio::time::timeout_at(deadline, work).await.map_err(|_| status::deadline_exceeded())
}

/// The future's output, or INTERNAL if it panics.
pub(super) async fn catch_panic<T>(work: impl Future<Output = T>) -> Result<T, Status> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| status::panicked())
}

/// The value of `grpc-timeout`: up to 8 digits and a unit. An invalid one is ignored.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(TIMEOUT_HEADER)?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
