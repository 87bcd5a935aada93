//! Arguments, logging, dispatch to a command, exit code.

use std::process::ExitCode;

use embedd::cli::{self, Command, Convert, Fetch, Serve, WRONG_USE};
use embedd::config::{Configuration, Flags};
use embedd::convert::ConvertError;
use embedd::fetch::Fetcher;
use embedd::home::Home;
use embedd::prepare::{Making, Preparation, PrepareError};
use embedd::progress::Progress;
use embedd::{app, logging};
use tokio::signal::unix::{SignalKind, signal};

mod commands;

/// The exit code of what failed.
const FAILED: u8 = 1;
/// The exit code of a model that is not accurate enough.
const GATE_FAILED: u8 = 2;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(command) => run(command),
        Err(exit) => {
            // A reader that has left wanted no more of the text.
            let _ = exit.print();
            ExitCode::from(exit.code())
        }
    }
}

fn run(command: Command) -> ExitCode {
    let configuration = match Configuration::load(flags(&command)) {
        Ok(configuration) => configuration,
        Err(errors) => {
            eprintln!("error: {errors}");
            return ExitCode::from(WRONG_USE);
        }
    };
    let done = match command {
        Command::Serve(serve) => run_server(&serve, configuration),
        Command::Fetch(fetch) => run_fetch(&fetch, &configuration),
        Command::Convert(convert) => run_convert(&convert, &configuration),
        Command::Package(package) => commands::package::run(&package, &configuration),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        Some(PrepareError::Convert(ConvertError::Gate(_))) => GATE_FAILED,
        _ if commands::package::is_gate(error) => GATE_FAILED,
        _ => FAILED,
    }
}

fn flags(command: &Command) -> &Flags {
    match command {
        Command::Serve(serve) => &serve.flags,
        Command::Fetch(fetch) => &fetch.flags,
        Command::Convert(convert) => &convert.flags,
        Command::Package(package) => &package.flags,
    }
}

fn run_server(serve: &Serve, configuration: Configuration) -> anyhow::Result<()> {
    if serve.print_config {
        print!("{}", configuration.to_toml());
        return Ok(());
    }
    start_logging(&configuration)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), configuration = configuration.summary(), "starting");
    for warning in configuration.warnings(app::cpus()) {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let stop = stop_signal()?;
        anyhow::Ok(app::serve(configuration.settings, stop).await?)
    });
    // A download or a conversion that was stopped ends with the process.
    runtime.shutdown_background();
    if let Err(error) = &served {
        tracing::error!("{error:#}");
    }
    served
}

fn run_fetch(fetch: &Fetch, configuration: &Configuration) -> anyhow::Result<()> {
    start_logging(configuration)?;
    let (home, fetcher, _) = fetching(configuration)?;
    let fetcher = fetcher.origin(fetch.from).verify(fetch.verify);
    let runtime = fetcher.runtime()?;
    let model = fetcher.model(&configuration.settings.model)?;
    println!("cache folder  {}", home.root().display());
    println!("ONNX Runtime  {}", runtime.display());
    println!("model         {}", model.display());
    Ok(())
}

fn run_convert(convert: &Convert, configuration: &Configuration) -> anyhow::Result<()> {
    start_logging(configuration)?;
    let (home, fetcher, progress) = fetching(configuration)?;
    let model = &configuration.settings.model;
    let output = convert.output.clone().unwrap_or_else(|| home.bundle_dir(model));
    let preparation = Preparation { home: &home, fetcher: &fetcher, progress: &progress };
    let making = Making { recipe: convert.recipe, gate: convert.gate, reference: convert.reference.clone() };
    let bundle = preparation.convert(model, output, convert.force, making)?;
    println!("bundle  {}", bundle.folder().display());
    Ok(())
}

fn fetching(configuration: &Configuration) -> anyhow::Result<(Home, Fetcher, Progress)> {
    let settings = &configuration.settings;
    let home = Home::find(settings.home.clone())?;
    let progress = Progress::auto();
    let fetcher = Fetcher::from_env(home.clone(), progress.clone())
        .offline(settings.offline)
        .runtime_library(settings.onnxruntime.clone());
    Ok((home, fetcher, progress))
}

fn start_logging(configuration: &Configuration) -> anyhow::Result<()> {
    let settings = &configuration.settings;
    Ok(logging::init(settings.log_format, &settings.log_level)?)
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
            std::process::exit(i32::from(FAILED));
        });
    })
}
