//! The servers for health probes and metrics.

use std::future::Future;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::grpc::Health;

/// How long probes in flight may take after everything else has ended.
const PROBES_TIMEOUT: Duration = Duration::from_millis(500);

/// Servers with their own listeners, which stay available until the end of the drain.
pub(super) struct Probes {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Probes {
    pub(super) fn new() -> Self {
        Self { stop: CancellationToken::new(), tasks: TaskTracker::new() }
    }

    /// Starts a server if there is a socket for it.
    pub(super) fn start<F>(&self, socket: Option<TcpListener>, serve: impl FnOnce(TcpListener, CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(socket) = socket {
            self.tasks.spawn(serve(socket, self.stop.clone()));
        }
    }

    /// Ends the probes, which have reported until now that the server is draining.
    pub(super) async fn end(&self, health: &Health) {
        health.end_probes().await;
        self.stop.cancel();
        self.tasks.close();
        // Connections that do not close in time are dropped.
        let _ = tokio::time::timeout(PROBES_TIMEOUT, self.tasks.wait()).await;
    }
}
