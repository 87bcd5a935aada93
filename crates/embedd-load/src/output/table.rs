//! The table on the terminal, with one line per step.

use std::fmt::Write as _;

use super::super::figures::{Results, StepFigures};
use super::{load, problems, rate, sessions};
use embedd_common::page::ms;

/// The lines above the table, and its column titles.
pub fn header(results: &Results) -> String {
    let server = &results.server;
    let mut out = format!("{} at {}: engine {}", server.model, server.address, server.engine);
    let sessions = sessions(server);
    // Writing to a String cannot fail.
    let _ = writeln!(out, " ({}), {sessions}, embedd {}", server.instruction_set, server.version);
    let _ = writeln!(out, "{}\n", results.about());
    let _ = writeln!(
        out,
        "{:>8} {:>8} {:>8} {:>9} | {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} | {:>7} {:>7} {:>8} | {:>6} {:>7}",
        "load",
        "req/s",
        "texts/s",
        "tokens/s",
        "mean",
        "P50",
        "P90",
        "P95",
        "P99",
        "P99.9",
        "max",
        "queue",
        "infer",
        "overhead",
        "cached",
        "failed"
    );
    out
}

/// The line of a step.
pub fn row(step: &StepFigures) -> String {
    let latency = step.latency.map_or_else(
        || ["-"; 7].map(str::to_owned),
        |l| [l.mean_ms, l.p50_ms, l.p90_ms, l.p95_ms, l.p99_ms, l.p99_9_ms, l.max_ms].map(ms),
    );
    let [mean, p50, p90, p95, p99, p99_9, max] = latency;
    let times = step.times.map(|times| [times.queue_p50_ms, times.infer_p50_ms, times.overhead_p50_ms].map(ms));
    let [queue, infer, overhead] = times.unwrap_or_else(|| ["-"; 3].map(str::to_owned));
    let failed = step.codes.values().sum::<u64>() - step.requests + step.not_sent;
    let cached = format!("{:.0} %", step.cached_share * 100.0);
    let [requests, texts, tokens] = [step.requests_per_s, step.texts_per_s, step.tokens_per_s].map(rate);
    format!(
        "{:>8} {requests:>8} {texts:>8} {tokens:>9} | {mean:>7} {p50:>7} {p90:>7} {p95:>7} {p99:>7} {p99_9:>7} {max:>7} \
         | {queue:>7} {infer:>7} {overhead:>8} | {cached:>6} {failed:>7}\n",
        load(&step.step)
    )
}

/// The lines below the table: an explanation of the columns, and what went wrong.
pub fn footnotes(results: &Results) -> String {
    let mut out =
        "\nLatencies in ms. queue and infer: P50 as measured by the server; overhead: P50 of the rest of the \
                   latency.\n"
            .to_owned();
    for step in &results.steps {
        for problem in problems(step) {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "at {}: {problem}", load(&step.step));
        }
    }
    if results.settings.verify && results.mismatches() == 0 {
        let texts: u64 = results.steps.iter().map(|step| step.texts).sum();
        let _ = writeln!(out, "{texts} embeddings compared: each is identical to that of its text alone.");
    }
    if results.interrupted {
        out.push_str("Interrupted: the last step is shorter than the others.\n");
    }
    out
}
