//! `embedd bench`

use super::measured::MeasuredBundle;
use super::outcome::Outcome;
use super::setup::start_logging;
use crate::cli::Bench;
use crate::config::Configuration;

pub(super) fn run(command: &Bench, configuration: &Configuration) -> anyhow::Result<Outcome> {
    start_logging(configuration)?;
    let measured = MeasuredBundle::open(configuration)?;
    let baseline = measured.baseline(&command.timed)?;
    let mut report = measured.report();
    report.add_latency(measured.time(&command.timed)?, measured.threads.get());
    if let Some(baseline) = &baseline {
        report.add_baseline(baseline);
    }
    if command.json {
        let json = serde_json::json!({
            "model": report.model,
            "threads": report.threads,
            "latency": report.latency,
            "baselines": report.baselines,
            "machine": report.machine,
        });
        println!("{json:#}");
    } else {
        print!("{}", report.latency_table());
    }
    Ok(Outcome::Done)
}
