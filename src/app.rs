//! The composition root: configuration to parts to servers; readiness; drain.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Settings;
use crate::grpc::TlsError;
use crate::stats::Stats;
use crate::tokens::TokensError;
use crate::trace::{TraceError, Traces};

mod doors;
mod load;
mod loader;
mod probes;
mod self_check;
mod servers;
mod sockets;

pub(crate) use load::LoadModelError;
use loader::Loader;
use servers::Servers;

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
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
    /// Traces cannot be sent where they are to go.
    #[error(transparent)]
    Traces(#[from] TraceError),
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
pub(crate) async fn serve(settings: Settings, stop: impl Future<Output = ()>) -> Result<(), AppError> {
    let traces = traces(&settings)?;
    let served = serve_traced(settings, traces.clone(), stop).await;
    traces.end().await;
    served
}

async fn serve_traced(settings: Settings, traces: Traces, stop: impl Future<Output = ()>) -> Result<(), AppError> {
    let stats = Stats::default();
    let loader = Arc::new(Loader::new(settings.clone(), &stats));
    let servers = Servers::start(&settings, stats, traces, Arc::clone(&loader)).await?;
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

fn traces(settings: &Settings) -> Result<Traces, TraceError> {
    match &settings.otlp_endpoint {
        Some(collector) => Traces::to(collector, settings.trace_ratio),
        None => Ok(Traces::default()),
    }
}

/// CPUs of this process: of its cgroup's quota and its affinity, not of the host.
pub(crate) fn cpus() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
