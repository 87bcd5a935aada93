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
use crate::grpc::{AdminListener, EmbeddingListener, Health, HealthListener, Protocols, TlsError};
use crate::model_slot::{ModelSlot, Served};
use crate::stats::Stats;
use crate::tokens::TokensError;

mod doors;
mod load;
mod loader;
mod self_check;

use doors::Doors;
pub use load::LoadModelError;
use loader::Loader;
pub use self_check::SelfCheckError;

/// For probes that are being answered when all else has ended.
const PROBES_END: Duration = Duration::from_millis(500);

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
    /// There is no TLS to be made of the files named.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There are no tokens in the file named.
    #[error(transparent)]
    Tokens(#[from] TokensError),
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
    let servers = Servers::start(&settings, stats, Arc::clone(&loader)).await?;
    let (grace, drain) = (settings.shutdown_grace, settings.drain_timeout);
    tokio::pin!(stop);

    let loading = tokio::task::spawn_blocking(move || loader.first());
    tokio::select! {
        loaded = loading => servers.ready(loaded.map_err(LoadModelError::from)??).await,
        () = &mut stop => return Ok(()),
    }
    stop.await;
    servers.stop(grace, drain).await
}

/// The listeners, and what they share.
struct Servers {
    model: ModelSlot,
    health: Health,
    stop: CancellationToken,
    /// The servers but that of probes.
    tasks: TaskTracker,
    probes: Probes,
    /// Calls under way.
    requests: TaskTracker,
}

/// Health on a listener of its own, which is there to the last.
struct Probes {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Servers {
    async fn start(settings: &Settings, stats: Stats, loader: Arc<Loader>) -> Result<Self, AppError> {
        let doors = Doors::open(settings)?;
        let listener = listen(settings.listen, "--listen").await?;
        let admin_listener = listen_if(settings.admin_listen, "--admin-listen").await?;
        let health_listener = listen_if(settings.health_listen, "--health-listen").await?;
        let protocols = Protocols { tei: settings.tei, open_inference: settings.open_inference };
        let (model, health) = (ModelSlot::default(), Health::not_yet_serving(protocols).await);
        let (stop, tasks, requests) = (CancellationToken::new(), TaskTracker::new(), TaskTracker::new());
        let probes = Probes { stop: CancellationToken::new(), tasks: TaskTracker::new() };

        let (limits, reflection) = (doors.limits, settings.reflection);
        tell_address("gRPC", &listener);
        let embedding = EmbeddingListener {
            model: model.clone(),
            health: health.clone(),
            requests: requests.clone(),
            limits,
            protocols,
            reflection,
            stats: stats.clone(),
            door: doors.service,
        };
        tasks.spawn(embedding.serve(listener, stop.clone()));
        if let Some(listener) = admin_listener {
            tell_address("admin gRPC", &listener);
            let admin = AdminListener {
                operations: Operations::new(model.clone(), loader, stats),
                health: health.clone(),
                requests: requests.clone(),
                limits,
                reflection,
                door: doors.admin,
            };
            tasks.spawn(admin.serve(listener, stop.clone()));
        }
        if let Some(listener) = health_listener {
            tell_address("health", &listener);
            let server = HealthListener { health: health.clone(), limits, door: doors.health };
            probes.tasks.spawn(server.serve(listener, probes.stop.clone()));
        }
        tasks.close();
        probes.tasks.close();
        Ok(Self { model, health, stop, tasks, probes, requests })
    }

    async fn ready(&self, served: Served) {
        self.model.replace(Some(Arc::new(served)));
        self.health.serving().await;
        tracing::info!("ready");
    }

    /// NOT_SERVING, a grace for load balancers to notice, no new connections, the rest of the requests.
    async fn stop(self, grace: Duration, drain: Duration) -> Result<(), AppError> {
        self.health.not_serving().await;
        tracing::info!(?grace, "stopping: health is NOT_SERVING");
        tokio::time::sleep(grace).await;
        tracing::info!(timeout = ?drain, "draining");
        self.health.end_watches().await;
        self.stop.cancel();
        let drained = tokio::time::timeout(drain, self.tasks.wait()).await;
        self.stop_probes().await;
        if drained.is_err() {
            let requests = self.requests.len();
            if requests > 0 {
                return Err(AppError::DrainTimeout { requests, timeout: drain });
            }
            tracing::warn!("some connections were not closed by their clients; none had a request under way");
        }
        tracing::info!("drained");
        Ok(())
    }

    /// Until now probes were told that requests are under way, but no new ones are welcome.
    async fn stop_probes(&self) {
        self.health.end_probes().await;
        self.probes.stop.cancel();
        // A prober that does not go is left behind.
        let _ = tokio::time::timeout(PROBES_END, self.probes.tasks.wait()).await;
    }
}

async fn listen(address: SocketAddr, setting: &'static str) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|source| AppError::Listen { address, setting, source })
}

async fn listen_if(address: Option<SocketAddr>, setting: &'static str) -> Result<Option<TcpListener>, AppError> {
    match address {
        Some(address) => listen(address, setting).await.map(Some),
        None => Ok(None),
    }
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
