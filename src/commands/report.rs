//! `embedd report`

use super::{Outcome, proof, start_logging};
use crate::cli;
use crate::config::Configuration;
use embedd_convert::report::{JSON_FILE, Report};

pub(super) fn run(command: &cli::Report, configuration: &Configuration) -> anyhow::Result<Outcome> {
    start_logging(configuration)?;
    let bench = proof::Bench::open(configuration)?;
    let baseline = bench.baseline(&command.timed)?;
    let mut report = bench.report();
    if bench.bundle.manifest().files.contains_key(JSON_FILE) {
        // What conversion tried is known to its own report alone.
        report.recipes = Report::read(&bench.bundle.verify(JSON_FILE)?)?.recipes;
    }
    compare(&bench, command, &mut report)?;
    report.add_latency(bench.time(&command.timed)?, bench.threads.get());
    if let Some(baseline) = &baseline {
        report.add_baseline(baseline);
    }
    for path in report.write(command.output.as_deref().unwrap_or_else(|| ".".as_ref()))? {
        println!("{}", path.display());
    }
    Ok(Outcome::of_gate(report.passed()))
}

fn compare(bench: &proof::Bench, command: &cli::Report, report: &mut Report) -> anyhow::Result<()> {
    let (reference, summary) = bench.reference(command.reference.as_deref())?;
    let variants = bench.variants();
    let comparisons = bench.validate(&variants, &reference, command.min_cosine)?;
    for (variant, comparison) in variants.into_iter().zip(comparisons) {
        report.add_comparison(variant, comparison, &reference);
    }
    report.reference = Some(summary);
    Ok(())
}
