//! `embedd report`

use super::measured::MeasuredBundle;
use super::outcome::Outcome;
use super::setup::start_logging;
use crate::cli;
use crate::config::Configuration;
use embedd_convert::report::{JSON_FILE, Report};

pub(super) fn run(command: &cli::Report, configuration: &Configuration) -> anyhow::Result<Outcome> {
    start_logging(configuration)?;
    let measured = MeasuredBundle::open(configuration)?;
    let baseline = measured.baseline(&command.timed)?;
    let mut report = measured.report();
    if measured.bundle.manifest().files.contains_key(JSON_FILE) {
        // Only the report of the conversion lists the recipes that were tried.
        report.recipes = Report::read(&measured.bundle.verify(JSON_FILE)?)?.recipes;
    }
    compare(&measured, command, &mut report)?;
    report.add_latency(measured.time(&command.timed)?, measured.threads.get());
    if let Some(baseline) = &baseline {
        report.add_baseline(baseline);
    }
    for path in report.write(&command.output)? {
        println!("{}", path.display());
    }
    Ok(Outcome::of_gate(report.passed()))
}

fn compare(measured: &MeasuredBundle, command: &cli::Report, report: &mut Report) -> anyhow::Result<()> {
    let (reference, summary) = measured.reference(command.reference.as_deref())?;
    let engines = measured.engines();
    let comparisons = measured.validate(&engines, &reference, command.min_cosine)?;
    for (engine, comparison) in engines.into_iter().zip(comparisons) {
        report.add_comparison(engine, comparison, &reference);
    }
    report.reference = Some(summary);
    Ok(())
}
