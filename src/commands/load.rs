//! `embedd load`

use std::fs;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::client::{builder, explain};
use super::outcome::Outcome;
use super::setup::start_logging;
use crate::cli::{Load, ResultFiles, StepArgs, TextArgs};
use crate::config::Configuration;
use embedd_convert::machine::Machine;
use embedd_convert::validate::parse_texts;
use embedd_load::figures::{Client, Results};
use embedd_load::plan::{Plan, Source, Step};
use embedd_load::{Event, LoadError, output};

pub(super) fn run(command: &Load, configuration: &Configuration) -> anyhow::Result<Outcome> {
    start_logging(configuration)?;
    let plan = plan(command)?;
    let connector = builder(&command.server, &command.credentials)?;
    // A single thread, to leave the CPUs to a server on the same machine.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let results = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_ctrl_c(stop.clone());
        embedd_load::run(&plan, &connector, this_machine(), &stop, report).await
    });
    let results = results.map_err(|error| match error {
        LoadError::Connect(error) => explain(error, &command.credentials),
        error => error.into(),
    })?;
    print(&output::footnotes(&results));
    write(&command.results, &results)?;
    check(&results)?;
    Ok(Outcome::Done)
}

fn plan(command: &Load) -> anyhow::Result<Plan> {
    Ok(Plan {
        server: command.server.clone(),
        steps: steps(&command.steps),
        duration: command.steps.duration,
        warm_up: command.steps.warm_up,
        connections: command.steps.connections,
        source: source(&command.texts)?,
        texts_per_request: command.request.texts_per_request,
        skip_cache: !command.request.cache,
        deadline: command.request.deadline,
        encoding: command.request.encoding,
        verify: command.request.verify,
        seed: command.texts.seed,
    })
}

fn steps(steps: &StepArgs) -> Vec<Step> {
    let max_in_flight = steps.max_in_flight.get();
    let open = |&rate: &f64| Step::Open { rate, arrivals: steps.arrivals, max_in_flight };
    let closed = |callers: &NonZeroUsize| Step::Closed { concurrency: callers.get() };
    if steps.rate.is_empty() {
        steps.concurrency.iter().map(closed).collect()
    } else {
        steps.rate.iter().map(open).collect()
    }
}

fn source(texts: &TextArgs) -> anyhow::Result<Source> {
    let Some(path) = &texts.texts else {
        return Ok(Source::Generated { lengths: texts.tokens, distinct: texts.distinct });
    };
    let contents = fs::read_to_string(path).with_context(|| format!("--texts {}", path.display()))?;
    Ok(Source::Given(parse_texts(&contents, path)?.into_iter().map(|text| text.text).collect()))
}

/// The first Ctrl-C ends the test, the second one the process.
fn stop_on_ctrl_c(stop: CancellationToken) {
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

fn report(event: Event<'_>) {
    print(&match event {
        Event::Started(results) => output::header(results),
        Event::StepDone(step) => output::row(step),
    });
}

/// A closed pipe does not end a test whose results are written to files.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn write(files: &ResultFiles, results: &Results) -> anyhow::Result<()> {
    write_file(&files.csv, || results.to_csv())?;
    write_file(&files.json, || results.to_json())?;
    write_file(&files.html, || results.to_html())
}

fn write_file(path: &Option<PathBuf>, render: impl FnOnce() -> String) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, render()).with_context(|| format!("cannot write {}", path.display()))
}

/// Fails if nothing was measured, or if an embedding was wrong.
fn check(results: &Results) -> anyhow::Result<()> {
    if results.requests() == 0 {
        let first = results.steps.iter().flat_map(|step| &step.messages).next();
        let reason = first.map_or("no reply arrived in time".to_owned(), |(code, message)| format!("{code} {message}"));
        anyhow::bail!("no request succeeded: {reason}");
    }
    let mismatches = results.mismatches();
    let texts: u64 = results.steps.iter().map(|step| step.texts).sum();
    anyhow::ensure!(mismatches == 0, "{mismatches} of {texts} embeddings differ from those of the same texts alone");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Command};

    fn planned(args: &[&str]) -> Plan {
        match cli::parse([&["embedd", "load"], args].concat()).expect("valid").command {
            Command::Load(load) => plan(&load).expect("a plan"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plan_has_a_closed_loop_unless_a_rate_is_given() {
        let plan = planned(&["--concurrency", "1,4"]);
        assert_eq!(plan.steps, [1, 4].map(|concurrency| Step::Closed { concurrency }));
        assert!(plan.skip_cache && !plan.verify);
        let plan = planned(&["--rate", "5,7.5", "--max-in-flight", "9", "--cache"]);
        assert_eq!(plan.steps.iter().map(Step::load).collect::<Vec<_>>(), [5.0, 7.5]);
        assert!(matches!(plan.steps[0], Step::Open { max_in_flight: 9, .. }) && !plan.skip_cache);
    }

    #[test]
    fn texts_come_from_a_file_if_one_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "one\ntwo\n").expect("write");
        let path = file.path().to_str().expect("text");
        assert_eq!(planned(&["--texts", path]).source, Source::Given(vec!["one".to_owned(), "two".to_owned()]));
    }
}
