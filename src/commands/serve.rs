//! `embedd serve`

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{start_logging, told};
use crate::app;
use crate::cli::Serve;
use crate::config::Configuration;
use crate::logging;

/// For a model that is being loaded when the process is to end.
const LOADING_END: Duration = Duration::from_secs(3);
/// The exit code of a process that is told to end twice.
const ENDED: i32 = 1;

pub(super) fn run(serve: &Serve, configuration: Configuration) -> anyhow::Result<()> {
    if serve.print_config {
        print!("{}", configuration.to_toml());
        return Ok(());
    }
    start_logging(&configuration)?;
    logging::log_panics();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), configuration = configuration.summary(), "starting");
    for warning in configuration.warnings(app::cpus()) {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let stop = stop_signal()?;
        anyhow::Ok(app::serve(configuration.settings, stop).await?)
    });
    // A model that is being loaded is let come to its end: ONNX Runtime does not bear that the process ends meanwhile. A
    // download or a conversion ends with the process.
    runtime.shutdown_timeout(LOADING_END);
    if let Err(error) = &served {
        tracing::error!("{}", told(error));
    }
    served
}

/// Done at the first SIGTERM or SIGINT; the second ends the process at once.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM"),
            _ = interrupt.recv() => tracing::info!("SIGINT"),
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("second signal: ending at once");
            std::process::exit(ENDED);
        });
    })
}
