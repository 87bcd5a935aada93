//! `embedd bench`

use super::{proof, start_logging};
use crate::cli::Bench;
use crate::config::Configuration;

pub(super) fn run(command: &Bench, configuration: &Configuration) -> anyhow::Result<()> {
    start_logging(configuration)?;
    let bench = proof::Bench::open(configuration)?;
    let baseline = bench.baseline(&command.timed)?;
    let mut report = bench.report();
    report.add_latency(bench.time(&command.timed)?, bench.threads.get());
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
    Ok(())
}
