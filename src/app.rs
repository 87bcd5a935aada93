//! The composition root: configuration to parts to servers; readiness; drain.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Operations;
use crate::config::Settings;
use crate::grpc::{AdminListener, EmbeddingListener, Health, ServeError};
use crate::model_slot::{ModelSlot, Served};
use crate::stats::Stats;

mod load;
mod loader;
mod self_check;

pub use load::LoadModelError;
use loader::Loader;
pub use self_check::SelfCheckError;

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An address is taken, or not this machine's.
    #[error("cannot listen on {address} ({setting}): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        setting: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// There is no model to serve.
    #[error(transparent)]
    Load(#[from] LoadModelError),
    /// A server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Requests were still under way at the end of the drain.
    #[error("{requests} requests were still under way after {timeout:?} (--drain-timeout); they were cut off")]
    DrainTimeout {
        /// Requests that got no reply.
        requests: usize,
        /// The time that they had.
        timeout: Duration,
    },
}

/// Serves until `stop` is done, then drains.
///
/// The listeners are open, and health answers NOT_SERVING, while the model is fetched, converted and loaded.
///
/// # Errors
/// [`AppError`].
pub async fn serve(settings: Settings, stop: impl Future<Output = ()>) -> Result<(), AppError> {
    let stats = Stats::default();
    let loader = Arc::new(Loader::new(settings.clone(), &stats));
    let mut servers = Servers::start(&settings, stats, Arc::clone(&loader)).await?;
    let (grace, drain) = (settings.shutdown_grace, settings.drain_timeout);
    tokio::pin!(stop);

    let loading = tokio::task::spawn_blocking(move || loader.first());
    tokio::select! {
        loaded = loading => servers.ready(loaded.map_err(LoadModelError::from)??).await,
        failed = servers.failed() => return Err(failed),
        () = &mut stop => return Ok(()),
    }
    tokio::select! {
        failed = servers.failed() => return Err(failed),
        () = &mut stop => {}
    }
    servers.stop(grace, drain).await
}

/// The listeners, and what they share.
struct Servers {
    model: ModelSlot,
    health: Health,
    stop: CancellationToken,
    /// The servers.
    tasks: TaskTracker,
    /// Calls under way.
    requests: TaskTracker,
    failures: tokio::sync::mpsc::Receiver<AppError>,
}

impl Servers {
    async fn start(settings: &Settings, stats: Stats, loader: Arc<Loader>) -> Result<Self, AppError> {
        let listener = listen(settings.listen, "--listen").await?;
        let admin_listener = match settings.admin_listen {
            Some(address) => Some(listen(address, "--admin-listen").await?),
            None => None,
        };
        let (model, health) = (ModelSlot::default(), Health::not_yet_serving().await);
        let (stop, tasks, requests) = (CancellationToken::new(), TaskTracker::new(), TaskTracker::new());
        let (report, failures) = tokio::sync::mpsc::channel(2);
        let spawn = |server: ServerFuture| {
            let report = report.clone();
            tasks.spawn(async move {
                if let Err(error) = server.await {
                    // Both servers' failures fit the channel.
                    let _ = report.send(AppError::Serve(error)).await;
                }
            });
        };

        let reflection = settings.reflection;
        tell_address("gRPC", &listener);
        let embedding = EmbeddingListener {
            model: model.clone(),
            health: health.clone(),
            requests: requests.clone(),
            max_message_bytes: settings.max_message_bytes.get(),
            reflection,
            stats: stats.clone(),
        };
        spawn(Box::pin(embedding.serve(listener, stop.clone())));
        if let Some(listener) = admin_listener {
            tell_address("admin gRPC", &listener);
            let admin = AdminListener {
                operations: Operations::new(model.clone(), loader, stats),
                health: health.clone(),
                requests: requests.clone(),
                stopping: stop.clone(),
                reflection,
            };
            spawn(Box::pin(admin.serve(listener, stop.clone())));
        }
        tasks.close();
        Ok(Self { model, health, stop, tasks, requests, failures })
    }

    async fn ready(&mut self, served: Served) {
        self.model.replace(Some(Arc::new(served)));
        self.health.serving().await;
        tracing::info!("ready");
    }

    /// Waits for a server to fail; for ever where none does.
    async fn failed(&mut self) -> AppError {
        match self.failures.recv().await {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// NOT_SERVING, a grace for load balancers to notice, no new connections, the rest of the requests.
    async fn stop(self, grace: Duration, drain: Duration) -> Result<(), AppError> {
        self.health.not_serving().await;
        tracing::info!(?grace, "stopping: health is NOT_SERVING");
        tokio::time::sleep(grace).await;
        tracing::info!(timeout = ?drain, "draining");
        self.health.end_watches().await;
        self.stop.cancel();
        if tokio::time::timeout(drain, self.tasks.wait()).await.is_err() {
            let requests = self.requests.len();
            if requests > 0 {
                return Err(AppError::DrainTimeout { requests, timeout: drain });
            }
            tracing::warn!("some connections were not closed by their clients; none had a request under way");
        }
        tracing::info!("drained");
        Ok(())
    }
}

type ServerFuture = std::pin::Pin<Box<dyn Future<Output = Result<(), ServeError>> + Send>>;

async fn listen(address: SocketAddr, setting: &'static str) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|source| AppError::Listen { address, setting, source })
}

/// Port 0 lets the system choose: the log tells what it chose.
fn tell_address(server: &str, listener: &TcpListener) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, server, "listening");
    }
}

/// CPUs of this process: of its cgroup's quota and its affinity, not of the host.
pub fn cpus() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
