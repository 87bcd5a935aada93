//! The servers that tell how it goes.

use std::future::Future;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::grpc::Health;

/// For probes that are being answered when all else has ended.
const PROBES_END: Duration = Duration::from_millis(500);

/// Servers on listeners of their own, which are there to the last.
pub(super) struct Probes {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Probes {
    pub(super) fn new() -> Self {
        Self { stop: CancellationToken::new(), tasks: TaskTracker::new() }
    }

    /// Starts a server where there is a socket for it.
    pub(super) fn start<F>(&self, socket: Option<TcpListener>, serve: impl FnOnce(TcpListener, CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(socket) = socket {
            self.tasks.spawn(serve(socket, self.stop.clone()));
        }
    }

    /// Until now probes were told that requests are under way, but no new ones are welcome.
    pub(super) async fn end(&self, health: &Health) {
        health.end_probes().await;
        self.stop.cancel();
        self.tasks.close();
        // A prober that does not go is left behind.
        let _ = tokio::time::timeout(PROBES_END, self.tasks.wait()).await;
    }
}
