//! `embedd load`

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::start_logging;
use crate::cli::Load;
use crate::config::Configuration;
use embedd_convert::machine::Machine;
use embedd_convert::validate::parse_texts;
use embedd_load::figures::{Client, Results};
use embedd_load::plan::{Plan, Source};
use embedd_load::{News, output};

pub(super) fn run(command: &Load, configuration: &Configuration) -> anyhow::Result<()> {
    start_logging(configuration)?;
    let plan = plan(command)?;
    // One thread: the load generator takes no more from the server that it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let results = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_at_interrupt(stop.clone());
        embedd_load::run(&plan, this_machine(), &stop, tell).await
    })?;
    print(&output::footnotes(&results));
    write(command, &results)?;
    judge(&results)
}

fn plan(command: &Load) -> anyhow::Result<Plan> {
    let mut plan = command.plan.clone();
    if let Some(path) = &command.texts {
        let contents = fs::read_to_string(path).with_context(|| format!("--texts {}", path.display()))?;
        plan.source = Source::Given(parse_texts(&contents, path)?.into_iter().map(|text| text.text).collect());
    }
    Ok(plan)
}

/// The first Ctrl-C ends the test, the second the process.
fn stop_at_interrupt(stop: CancellationToken) {
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(1);
            }
        }
    });
}

fn this_machine() -> Client {
    let machine = Machine::now("none");
    Client {
        version: machine.embedd.clone(),
        cpu: machine.cpu_name().to_owned(),
        cpus: machine.cpus_available,
        os: machine.os,
        date: machine.date,
    }
}

fn tell(news: News<'_>) {
    print(&match news {
        News::Begun(results) => output::header(results),
        News::Step(step) => output::row(step),
    });
}

/// A reader that has left does not end a test whose results are written to files.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn write(command: &Load, results: &Results) -> anyhow::Result<()> {
    let write = |path: &Option<std::path::PathBuf>, render: &dyn Fn() -> String| match path {
        Some(path) => fs::write(path, render()).with_context(|| cannot_write(path)),
        None => Ok(()),
    };
    write(&command.csv, &|| results.to_csv())?;
    write(&command.json, &|| results.to_json())?;
    write(&command.html, &|| results.to_html())
}

fn cannot_write(path: &Path) -> String {
    format!("{} cannot be written", path.display())
}

fn judge(results: &Results) -> anyhow::Result<()> {
    if results.requests() == 0 {
        let messages = results.steps.iter().flat_map(|step| &step.messages).next();
        let (code, message) = messages.map_or(("", "none came back in time"), |(code, message)| (code, message));
        anyhow::bail!("no request succeeded: {code} {message}");
    }
    let mismatches = results.mismatches();
    let texts: u64 = results.steps.iter().map(|step| step.texts).sum();
    anyhow::ensure!(mismatches == 0, "{mismatches} of {texts} embeddings differ from those of the same texts alone");
    Ok(())
}
