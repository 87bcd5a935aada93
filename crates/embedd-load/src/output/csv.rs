//! Results as CSV. No field contains a comma, a quote or a line break.

use super::super::figures::{Latency, Results, StepFigures};
use super::super::plan::Step;

const LATENCY: [&str; 9] = ["count", "mean_ms", "min_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99_9_ms", "max_ms"];

pub(super) fn render(results: &Results) -> String {
    let names = |prefix: &str| LATENCY.map(|name| format!("{prefix}{name}")).join(",");
    let mut out = format!(
        "loop,load,connections,seconds,requests,texts,tokens,requests_per_s,texts_per_s,tokens_per_s,{},{},queue_p50_ms,\
         infer_p50_ms,total_p50_ms,overhead_p50_ms,cached_share,codes,not_sent,wrong_length,mismatches,sent_bytes,\
         received_bytes,client_cpu\n",
        names("latency_"),
        names("refused_")
    );
    for step in &results.steps {
        out += &line(step).join(",");
        out.push('\n');
    }
    out
}

fn line(step: &StepFigures) -> Vec<String> {
    let kind = match step.step {
        Step::Closed { .. } => "closed",
        Step::Open { .. } => "open",
    };
    let mut cells = vec![kind.to_owned(), step.step.load().to_string(), step.connections.to_string()];
    cells.push(number(step.seconds));
    cells.extend([step.requests, step.texts, step.tokens].map(|count| count.to_string()));
    cells.extend([step.requests_per_s, step.texts_per_s, step.tokens_per_s].map(number));
    cells.extend(latency(step.latency.as_ref()));
    cells.extend(latency(step.refused.as_ref()));
    let times = step.times.map(|t| [t.queue_p50_ms, t.infer_p50_ms, t.total_p50_ms, t.overhead_p50_ms].map(number));
    cells.extend(times.unwrap_or_default());
    cells.push(number(step.cached_share));
    let codes: Vec<String> = step.codes.iter().map(|(code, count)| format!("{code}={count}")).collect();
    cells.push(codes.join(";"));
    cells.extend([step.not_sent, step.wrong_length].map(|count| count.to_string()));
    cells.push(step.mismatches.map_or(String::new(), |count| count.to_string()));
    cells.extend([step.sent_bytes, step.received_bytes].map(|count| count.to_string()));
    cells.push(step.client_cpu.map_or(String::new(), number));
    cells
}

fn latency(latency: Option<&Latency>) -> [String; LATENCY.len()] {
    let Some(l) = latency else { return Default::default() };
    let [mean, min, p50, p90, p95, p99, p99_9, max] =
        [l.mean_ms, l.min_ms, l.p50_ms, l.p90_ms, l.p95_ms, l.p99_ms, l.p99_9_ms, l.max_ms].map(number);
    [l.count.to_string(), mean, min, p50, p90, p95, p99, p99_9, max]
}

fn number(value: f64) -> String {
    format!("{value:.4}")
}
