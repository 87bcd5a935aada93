//! `embedd serve`

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::outcome::{Outcome, describe};
use super::setup::start_server_log;
use crate::app;
use crate::cli::Serve;
use crate::config::Configuration;
use crate::logging::{self, ServerLog};
use embedd_kernels::limit_arenas;

/// How long shutdown waits for a model that is being loaded.
const LOADING_TIMEOUT: Duration = Duration::from_secs(3);
/// Threads for work that blocks: tokenizing long texts (as many as there are CPUs), parsing and serializing long messages,
/// reading files, loading a model. tokio's default of 512 would let callers start that many.
const MAX_BLOCKING_THREADS: usize = 64;
/// The exit code after a second signal.
const FORCED_EXIT: i32 = 1;

pub(super) fn run(serve: &Serve, configuration: Configuration) -> anyhow::Result<Outcome> {
    if serve.print_config {
        print!("{}", configuration.to_toml());
        return Ok(Outcome::Done);
    }
    // Threads that run at the same time need no more arenas than there are CPUs.
    limit_arenas(app::cpus().get());
    let log = start_server_log(&configuration)?;
    logging::log_panics();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), configuration = configuration.summary(), "starting");
    for warning in configuration.warnings(app::cpus()) {
        tracing::warn!("{warning}");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(MAX_BLOCKING_THREADS).build()?;
    let served = runtime.block_on(async {
        let stop = stop_signal(log.clone())?;
        anyhow::Ok(app::serve(configuration.settings, stop).await?)
    });
    // Wait for a model that is being loaded: ONNX Runtime crashes if the process exits in the meantime. A download or
    // a conversion simply ends with the process.
    runtime.shutdown_timeout(LOADING_TIMEOUT);
    if let Err(error) = &served {
        tracing::error!("{}", describe(error));
    }
    served.map(|()| Outcome::Done)
}

/// Completes on the first SIGTERM or SIGINT. The second one ends the process immediately.
fn stop_signal(log: ServerLog) -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("received SIGTERM"),
            _ = interrupt.recv() => tracing::info!("received SIGINT"),
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("received a second signal: exiting immediately");
            drop(log);
            std::process::exit(FORCED_EXIT);
        });
    })
}
