//! Results as a table, CSV, JSON and an HTML page.

use super::figures::{Results, Server, StepFigures};
use super::plan::Step;

mod csv;
mod html;
mod table;

pub use table::{footnotes, header, row};

impl Results {
    /// Formats the results as JSON.
    pub fn to_json(&self) -> String {
        // Numbers and strings always serialize.
        let json = serde_json::to_string_pretty(self).unwrap_or_else(|error| unreachable!("{error}"));
        json + "\n"
    }

    /// Formats the results as CSV: a header, and one line per step.
    pub fn to_csv(&self) -> String {
        csv::render(self)
    }

    /// Formats the results as an HTML page with plots.
    pub fn to_html(&self) -> String {
        html::render(self)
    }

    /// Describes the parameters that all steps share.
    fn about(&self) -> String {
        let settings = &self.settings;
        let of_texts = match (settings.tokens, settings.distinct) {
            (Some(tokens), _) if tokens.min == tokens.max => format!("of {} tokens", tokens.max),
            (Some(tokens), _) => format!("of {} to {} tokens", tokens.min, tokens.max),
            (None, _) => "from a file".to_owned(),
        };
        let drawn = settings.distinct.map_or("all different".to_owned(), |distinct| format!("drawn from {distinct}"));
        let cache = if settings.skip_cache { "cache bypassed" } else { "cache used" };
        let deadline = settings.deadline_ms.map_or(String::new(), |ms| format!(", deadline {ms} ms"));
        format!(
            "{} per request {of_texts}, {drawn}; {cache}; encoding {}{deadline}; {} s per step after {} s of warm-up; \
             seed {}",
            plural(settings.texts_per_request as u64, "text"),
            settings.encoding,
            settings.duration_s,
            settings.warm_up_s,
            settings.seed
        )
    }
}

/// A step's load: the number of callers, or requests per second.
fn load(step: &Step) -> String {
    match step {
        Step::Closed { concurrency } => concurrency.to_string(),
        Step::Open { rate, .. } => format!("{rate}/s"),
    }
}

/// Describes what went wrong in a step. Empty if nothing did.
fn problems(step: &StepFigures) -> Vec<String> {
    let mut problems = Vec::new();
    for (code, message) in &step.messages {
        let count = step.codes.get(code).copied().unwrap_or(0);
        problems.push(format!("{} {code}: {message}", plural(count, "request")));
    }
    if let Some(refused) = &step.refused {
        let p50 = embedd_common::page::ms(refused.p50_ms);
        let p99 = embedd_common::page::ms(refused.p99_ms);
        problems.push(format!("RESOURCE_EXHAUSTED was returned after {p50} ms (P50), {p99} ms (P99)"));
    }
    if step.not_sent > 0 {
        problems.push(format!("{} not sent: too many were in flight", plural(step.not_sent, "request")));
    }
    if step.wrong_length > 0 {
        let requests = plural(step.wrong_length, "request");
        problems.push(format!("{requests} with the wrong number of tokens"));
    }
    if let Some(mismatches) = step.mismatches.filter(|mismatches| *mismatches > 0) {
        let embeddings = plural(mismatches, "embedding");
        problems.push(format!("{embeddings} of {} differ from those of the same texts alone", step.texts));
    }
    problems
}

/// A count with its noun: `1 text`, `2 texts`.
fn plural(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn sessions(server: &Server) -> String {
    let threads = plural(u64::from(server.threads_per_session), "thread");
    format!("{} of {threads}", plural(u64::from(server.sessions), "session"))
}

/// Formats a rate with one decimal below 1000.
fn rate(value: f64) -> String {
    let decimals = usize::from(value < 1000.0);
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests;
