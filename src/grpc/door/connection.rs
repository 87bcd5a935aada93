//! One connection: served, told to end at its age, cut off where it outstays.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::stream::Stream;
use super::{HANDSHAKE_TIMEOUT, Stay};
use crate::accept::spread;
use crate::grpc::Services;

/// What a stream and the connection around it tell each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Signs {
    /// To the stream: end.
    pub(super) cut: CancellationToken,
    /// From the stream: it has ended.
    pub(super) gone: CancellationToken,
    /// From the stream: the client has begun to speak HTTP/2.
    pub(super) spoke: Arc<AtomicBool>,
}

pub(super) struct Connection {
    pub(super) signs: Signs,
    pub(super) stay: Stay,
    /// The whole listener is to end.
    pub(super) closing: CancellationToken,
}

impl Connection {
    /// Done when the last request is answered.
    pub(super) async fn serve(self, services: Services, stream: Stream) {
        let old = self.stay.max_age.map(|age| Instant::now() + spread(age));
        let outstayed = old.zip(self.stay.grace).and_then(|(old, grace)| old.checked_add(grace));
        // A server waits for further streams, so that it is its `stop` that ends it.
        let streams = tokio_stream::once(Ok::<_, Infallible>(stream)).chain(tokio_stream::pending());
        let stop = async {
            tokio::select! {
                () = self.closing.cancelled() => {}
                () = self.signs.gone.cancelled() => {}
                () = at(old) => {}
            }
        };
        tokio::select! {
            served = services.serve_with_incoming_shutdown(streams, stop) => {
                if let Err(error) = served {
                    tracing::debug!("a connection failed: {error}");
                }
            }
            () = self.stays_silent() => self.signs.cut.cancel(),
            () = at(outstayed) => {
                tracing::debug!("a connection has outstayed its age and grace: cut off");
                self.signs.cut.cancel();
            }
        }
    }

    /// Done where the client has said nothing for so long that it will not, or nothing before the listener ends.
    async fn stays_silent(&self) {
        tokio::select! {
            () = sleep(HANDSHAKE_TIMEOUT) => {}
            () = self.closing.cancelled() => {}
        }
        if self.signs.spoke.load(Ordering::Relaxed) {
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
