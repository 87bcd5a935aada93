//! One connection of the HTTP port.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::HttpLimits;
use crate::accept::spread;

/// A client has so long to send the head of a request, or to begin another one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Done when the client leaves, and after `closing` when the request under way is answered.
pub(super) async fn serve(stream: TcpStream, routes: Router, limits: HttpLimits, closing: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(limits.max_header_bytes)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
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
