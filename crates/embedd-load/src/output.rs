//! Results as a table, CSV, JSON and a page.

use super::figures::{Results, Server, StepFigures};
use super::plan::Step;

mod csv;
mod html;
mod table;

pub use table::{footnotes, header, row};

impl Results {
    /// As JSON.
    pub fn to_json(&self) -> String {
        // Numbers and text alone: it cannot fail.
        let json = serde_json::to_string_pretty(self).unwrap_or_else(|error| unreachable!("{error}"));
        json + "\n"
    }

    /// A line for each step, under names.
    pub fn to_csv(&self) -> String {
        csv::render(self)
    }

    /// A page with plots.
    pub fn to_html(&self) -> String {
        html::render(self)
    }

    /// What the steps have in common, in words.
    fn about(&self) -> String {
        let settings = &self.settings;
        let of_texts = match (settings.tokens, settings.distinct) {
            (Some(tokens), _) if tokens.least == tokens.most => format!("of {} tokens", tokens.most),
            (Some(tokens), _) => format!("of {} to {} tokens", tokens.least, tokens.most),
            (None, _) => "of a file".to_owned(),
        };
        let drawn = settings.distinct.map_or("no two alike".to_owned(), |distinct| format!("drawn from {distinct}"));
        let cache = if settings.skip_cache { "the cache is passed over" } else { "the cache answers" };
        let deadline = settings.deadline_ms.map_or(String::new(), |ms| format!(", deadline {ms} ms"));
        format!(
            "{} a request {of_texts}, {drawn}; {cache}; encoding {}{deadline}; {} s a step after {} s; seed {}",
            plural(settings.texts_per_request as u64, "text"),
            settings.encoding,
            settings.duration_s,
            settings.warm_up_s,
            settings.seed
        )
    }
}

/// What stands for a step's load: callers, or requests a second.
fn load(step: &Step) -> String {
    match step {
        Step::Closed { concurrency } => concurrency.to_string(),
        Step::Open { rate, .. } => format!("{rate}/s"),
    }
}

/// What did not go as it should, in words; none where all went well.
fn troubles(step: &StepFigures) -> Vec<String> {
    let mut troubles = Vec::new();
    for (code, message) in &step.messages {
        let count = step.codes.get(code).copied().unwrap_or(0);
        troubles.push(format!("{} {code}: {message}", plural(count, "request")));
    }
    if let Some(refused) = &step.refused {
        let (p50, p99) = (embedd_common::page::ms(refused.p50_ms), embedd_common::page::ms(refused.p99_ms));
        troubles.push(format!("RESOURCE_EXHAUSTED came after {p50} ms (P50), {p99} ms (P99)"));
    }
    if step.not_sent > 0 {
        troubles.push(format!("{} not sent: too many were without a reply", plural(step.not_sent, "request")));
    }
    if step.wrong_length > 0 {
        let requests = plural(step.wrong_length, "request");
        troubles.push(format!("{requests} of other tokens than asked for"));
    }
    if let Some(mismatches) = step.mismatches.filter(|mismatches| *mismatches > 0) {
        let embeddings = plural(mismatches, "embedding");
        troubles.push(format!("{embeddings} of {} not the bits of the text alone", step.texts));
    }
    troubles
}

/// A count with its noun: `1 text`, `2 texts`.
fn plural(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What runs the model.
fn pool(server: &Server) -> String {
    let threads = plural(u64::from(server.threads_per_session), "thread");
    format!("{} of {threads}", plural(u64::from(server.sessions), "session"))
}

/// A rate with the digits that matter.
fn rate(value: f64) -> String {
    let decimals = usize::from(value < 1000.0);
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests;
