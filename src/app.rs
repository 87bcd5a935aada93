//! The composition root: builds everything from the settings, loads the model, serves, and drains.

use std::sync::Arc;

use crate::config::{Settings, TraceParentChoice};
use crate::stats::Stats;
use crate::trace::{Sampling, TraceError, Traces};

mod admin_access;
mod bundle_roots;
mod error;
mod listeners;
mod load;
mod loader;
mod probes;
mod self_check;
mod servers;
mod sizes;
mod sockets;
mod watchdog;

use error::AppError;
use load::LoadModelError;
use loader::Loader;
use servers::Servers;

pub(crate) use sizes::cpus;

/// Serves until `stop` completes, then drains.
///
/// The listeners are open, and health reports NOT_SERVING, while the model is fetched, converted and loaded.
pub(crate) async fn serve(mut settings: Settings, stop: impl Future<Output = ()>) -> Result<(), AppError> {
    admin_access::prepare(&mut settings);
    let traces = traces(&settings)?;
    let served = serve_traced(settings, traces.clone(), stop).await;
    traces.end().await;
    served
}

async fn serve_traced(settings: Settings, traces: Traces, stop: impl Future<Output = ()>) -> Result<(), AppError> {
    let stats = Stats::default();
    let loader = Arc::new(Loader::new(settings.clone(), &stats)?);
    let servers = Servers::start(&settings, stats, traces, Arc::clone(&loader)).await?;
    tokio::pin!(stop);

    let loading = tokio::task::spawn_blocking(move || loader.load_first());
    tokio::select! {
        loaded = loading => servers.ready(loaded.map_err(LoadModelError::from)??).await,
        () = &mut stop => return Ok(()),
    }
    stop.await;
    servers.stop(settings.shutdown_grace, settings.drain_timeout).await
}

fn traces(settings: &Settings) -> Result<Traces, TraceError> {
    match &settings.otlp_endpoint {
        Some(collector) => {
            let follow_callers = settings.trace_parent == TraceParentChoice::Follow;
            Traces::to(collector, Sampling { ratio: settings.trace_ratio, follow_callers })
        }
        None => Ok(Traces::default()),
    }
}
