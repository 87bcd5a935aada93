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
use crate::http::{HttpListener, OpenAi, Seats};
use crate::metrics::Metrics;
use crate::model_slot::{ModelSlot, Served};
use crate::readiness::Readiness;
use crate::serving::Serving;
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
    /// The servers but those of probes.
    tasks: TaskTracker,
    probes: Probes,
    /// Calls under way.
    requests: TaskTracker,
}

impl Servers {
    async fn start(settings: &Settings, stats: Stats, loader: Arc<Loader>) -> Result<Self, AppError> {
        let doors = Doors::open(settings)?;
        let sockets = Sockets::open(settings).await?;
        let protocols = Protocols { tei: settings.tei, open_inference: settings.open_inference };
        let readiness = Readiness::default();
        let (model, health) = (ModelSlot::default(), Health::not_yet_serving(protocols, readiness.clone()).await);
        let (stop, tasks, requests) = (CancellationToken::new(), TaskTracker::new(), TaskTracker::new());

        let (limits, reflection, tokens) = (doors.limits, settings.reflection, doors.service.tokens.clone());
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
        tasks.spawn(embedding.serve(sockets.service, stop.clone()));
        if let Some(socket) = sockets.admin {
            let admin = AdminListener {
                operations: Operations::new(model.clone(), loader, stats.clone()),
                health: health.clone(),
                requests: requests.clone(),
                limits,
                reflection,
                stats: stats.clone(),
                door: doors.admin,
            };
            tasks.spawn(admin.serve(socket, stop.clone()));
        }
        tasks.close();
        let probes = Probes::new();
        let openai = tell_whether_served(doors.openai).then(|| OpenAi {
            serving: Serving { model: model.clone(), requests: requests.clone(), stats: stats.clone() },
            tokens,
            max_body_bytes: limits.max_message_bytes,
            seats: Seats::new(settings.max_connections, tasks.clone()),
            readiness: readiness.clone(),
            stop: stop.clone(),
        });
        let (metrics, http) = (Metrics { stats: stats.clone(), model: model.clone(), readiness }, doors.http);
        probes.start(sockets.http, |socket, stop| HttpListener { metrics, limits: http, openai }.serve(socket, stop));
        let health_alone = HealthListener { health: health.clone(), limits, stats, door: doors.health };
        probes.start(sockets.health, |socket, stop| health_alone.serve(socket, stop));
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
        self.probes.end(&self.health).await;
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
}

/// The servers that tell how it goes, on listeners of their own: they are there to the last.
struct Probes {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Probes {
    fn new() -> Self {
        Self { stop: CancellationToken::new(), tasks: TaskTracker::new() }
    }

    /// Starts a server where there is a socket for it.
    fn start<F>(&self, socket: Option<TcpListener>, serve: impl FnOnce(TcpListener, CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(socket) = socket {
            self.tasks.spawn(serve(socket, self.stop.clone()));
        }
    }

    /// Until now probes were told that requests are under way, but no new ones are welcome.
    async fn end(&self, health: &Health) {
        health.end_probes().await;
        self.stop.cancel();
        self.tasks.close();
        // A prober that does not go is left behind.
        let _ = tokio::time::timeout(PROBES_END, self.tasks.wait()).await;
    }
}

/// What the server listens on, all of it open before anything that takes time.
struct Sockets {
    service: TcpListener,
    admin: Option<TcpListener>,
    http: Option<TcpListener>,
    health: Option<TcpListener>,
}

impl Sockets {
    async fn open(settings: &Settings) -> Result<Self, AppError> {
        let sockets = Self {
            service: listen(settings.listen, "--listen").await?,
            admin: listen_if(settings.admin_listen, "--admin-listen").await?,
            http: listen_if(settings.http_listen, "--http-listen").await?,
            health: listen_if(settings.health_listen, "--health-listen").await?,
        };
        tell_address("gRPC", Some(&sockets.service));
        tell_address("admin gRPC", sockets.admin.as_ref());
        tell_address("HTTP", sockets.http.as_ref());
        tell_address("health", sockets.health.as_ref());
        Ok(sockets)
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
fn tell_address(server: &str, listener: Option<&TcpListener>) {
    if let Some(address) = listener.and_then(|listener| listener.local_addr().ok()) {
        tracing::info!(%address, server, "listening");
    }
}

fn tell_whether_served(openai: Result<(), &'static str>) -> bool {
    match openai {
        Ok(()) => tracing::info!("OpenAI's API is served on the HTTP port"),
        Err(reason) => tracing::info!(reason, "OpenAI's API is not served"),
    }
    openai.is_ok()
}

/// CPUs of this process: of its cgroup's quota and its affinity, not of the host.
pub fn cpus() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
