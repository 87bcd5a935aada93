//! One connection of the HTTP port.

use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::HttpLimits;
use super::seat::Seat;
use crate::accept::spread;

/// A client has so long to send the head of a request, or to begin another one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// When a connection is to end.
#[derive(Debug)]
pub(super) struct Ends {
    /// No more calls are taken. Connections of before end, so that those under way can be waited for; the listener stays,
    /// and takes new ones, for probes.
    pub(super) last_call: Option<CancellationToken>,
    /// The listener is closed.
    pub(super) closing: CancellationToken,
}

impl Ends {
    async fn come(self) {
        match self.last_call {
            Some(last_call) if !last_call.is_cancelled() => tokio::select! {
                () = last_call.cancelled() => {}
                () = self.closing.cancelled() => {}
            },
            _ => self.closing.cancelled().await,
        }
    }
}

/// Done when the client leaves, and when the connection is to end and the request under way is answered.
pub(super) async fn serve(stream: TcpStream, routes: Router, limits: HttpLimits, ends: Ends) {
    let (seat, service) = (Seat::default(), TowerToHyperService::new(routes));
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(seat.clone());
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(limits.max_header_bytes)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = ends.come() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = after(limits.max_age.map(spread)) => {
            connection.as_mut().graceful_shutdown();
            let grace = limits.grace.unwrap_or(Duration::MAX);
            // What a client does not take within its grace is cut off.
            timeout(grace, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!("an HTTP connection failed: {error}");
    }
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}
