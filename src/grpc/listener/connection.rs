//! One connection: serves it, shuts it down gracefully at its maximum age, and closes it at the end of its grace
//! period.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::signals::ConnectionSignals;
use super::stream::Stream;
use crate::accept::with_jitter;
use crate::grpc::layers::Services;

/// How long a client may take for the TLS handshake, and again for the first bytes of HTTP/2.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may stay open.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionLimits {
    /// The time without a frame after which the client is pinged.
    pub keepalive_interval: Option<Duration>,
    /// How long the client may take to answer a ping.
    pub keepalive_timeout: Duration,
    /// The age, give or take a tenth, at which the client is asked to reconnect.
    pub max_age: Option<Duration>,
    /// How long calls in flight may take beyond the maximum age.
    pub grace: Option<Duration>,
}

pub(super) struct Connection {
    pub(super) signals: ConnectionSignals,
    pub(super) limits: ConnectionLimits,
    /// Cancelled when the listener is closed.
    pub(super) closing: CancellationToken,
}

impl Connection {
    /// Returns when the last call has been answered.
    pub(super) async fn serve(self, services: Services, stream: Stream) {
        let expiry = self.limits.max_age.map(|age| Instant::now() + with_jitter(age));
        let end_of_grace = expiry.zip(self.limits.grace).and_then(|(expiry, grace)| expiry.checked_add(grace));
        // A tonic server waits for further connections, so that only its shutdown signal ends it.
        let connections = tokio_stream::once(Ok::<_, Infallible>(stream)).chain(tokio_stream::pending());
        let shutdown = async {
            tokio::select! {
                () = self.closing.cancelled() => {}
                () = self.signals.closed.cancelled() => {}
                () = at(expiry) => {}
            }
        };
        tokio::select! {
            served = services.serve_with_incoming_shutdown(connections, shutdown) => {
                if let Err(error) = served {
                    tracing::debug!("connection failed: {error}");
                }
            }
            () = self.stays_silent() => self.signals.close.cancel(),
            () = at(end_of_grace) => {
                tracing::debug!("connection exceeded its maximum age and grace period; closing it");
                self.signals.close.cancel();
            }
        }
    }

    /// Returns if the client has not started to speak HTTP/2 in time, or when the listener is closed.
    async fn stays_silent(&self) {
        tokio::select! {
            () = sleep(HANDSHAKE_TIMEOUT) => {}
            () = self.closing.cancelled() => {}
        }
        if self.signals.started.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
