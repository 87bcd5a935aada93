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

use super::limits::HttpLimits;
use super::permit::ConnectionPermit;
use crate::accept::with_jitter;

/// How long a client may take to send the head of a request, and how long a connection may stay idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The signals that shut a connection down.
#[derive(Debug)]
pub(super) struct Shutdown {
    /// Cancelled when the server accepts no more API calls. Connections opened before that are then shut down, so that
    /// the drain can wait for them; later ones are for probes, and stay open until the listener is closed.
    pub(super) draining: Option<CancellationToken>,
    /// Cancelled when the listener is closed.
    pub(super) closing: CancellationToken,
}

impl Shutdown {
    async fn requested(self) {
        match self.draining {
            Some(draining) if !draining.is_cancelled() => tokio::select! {
                () = draining.cancelled() => {}
                () = self.closing.cancelled() => {}
            },
            _ => self.closing.cancelled().await,
        }
    }
}

/// Returns when the client disconnects, or when the connection is shut down and the request in flight has been
/// answered.
pub(super) async fn serve(stream: TcpStream, routes: Router, limits: HttpLimits, shutdown: Shutdown) {
    let permit = ConnectionPermit::default();
    let service = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(permit.clone());
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
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = after(limits.max_age.map(with_jitter)) => {
            connection.as_mut().graceful_shutdown();
            let grace = limits.grace.unwrap_or(Duration::MAX);
            // A reply that the client does not read within the grace period is cut off.
            timeout(grace, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!("HTTP connection failed: {error}");
    }
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}
