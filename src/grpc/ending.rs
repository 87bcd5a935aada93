//! How a call ends that does not end by itself: at its deadline, or with a panic.
//!
//! tonic has a time-out of its own for `grpc-timeout`, which answers CANCELLED, and it cannot be turned off. This one
//! answers DEADLINE_EXCEEDED, a little earlier.

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

/// How much earlier than tonic's the time-out is: a tick of tokio's timer, and as much again for the reply's way.
const EARLIER: Duration = Duration::from_millis(2);
const TIMEOUT_HEADER: &str = "grpc-timeout";

/// When the caller of a request stops waiting; among the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(pub(super) Instant);

impl Deadline {
    /// Of a request that has one.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Option<Self> {
        request.extensions().get().copied()
    }

    /// Of the headers of a request that begins now.
    pub(super) fn of_headers(headers: &HeaderMap) -> Option<Self> {
        timeout(headers).map(|timeout| Self(Instant::now() + timeout.saturating_sub(EARLIER)))
    }
}

/// Ends every call of the services behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndingLayer;

/// A ended service.
#[derive(Debug, Clone)]
pub(super) struct Ending<S>(S);

impl<S> Layer<S> for EndingLayer {
    type Service = Ending<S>;

    fn layer(&self, inner: S) -> Ending<S> {
        Ending(inner)
    }
}

impl<S, B> Service<Request<B>> for Ending<S>
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
        let deadline = Deadline::of_headers(request.headers());
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        let call = catch_panic(self.0.call(request));
        Box::pin(async move {
            let ended = match deadline {
                Some(Deadline(deadline)) => before(deadline, call).await.flatten(),
                None => call.await,
            };
            ended.unwrap_or_else(|status| Ok(status.into_http()))
        })
    }
}

/// The future's output, or DEADLINE_EXCEEDED; nothing is begun that is late already.
async fn before<T>(deadline: Instant, work: impl Future<Output = T>) -> Result<T, Status> {
    if deadline <= Instant::now() {
        return Err(status::late());
    }
    tokio::time::timeout_at(deadline, work).await.map_err(|_| status::late())
}

/// The future's output, or INTERNAL where it panics.
pub(super) async fn catch_panic<T>(work: impl Future<Output = T>) -> Result<T, Status> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| status::panicked())
}

/// The `grpc-timeout` of the gRPC protocol: up to 8 digits and a unit. What is none is passed over, as tonic does.
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
