//! Replies as human-readable tables.

use std::fmt::Write as _;
use std::time::Duration;

use super::json::seconds;
use embedd_proto::codes::code_name;
use embedd_proto::{
    BenchmarkResult, CacheStats, GetStatsResponse, Latency, MethodStats, QueueStats, ReloadModelResponse, SessionStats,
    ValidateResponse,
};

/// The number of texts that are shown by default.
const WORST_TEXTS: usize = 10;
const LATENCY: [&str; 6] = ["count", "mean ms", "P50 ms", "P95 ms", "P99 ms", "max ms"];

pub(super) fn validation(found: &ValidateResponse, all: bool) -> String {
    let failed = found.texts.iter().filter(|text| !text.passed).count();
    let compared = match found.left_out {
        0 => found.texts.len().to_string(),
        left_out => format!(
            "{} ({left_out} more are left out: truncated differently from the reference set)",
            found.texts.len()
        ),
    };
    let mut out = pairs(&[
        ("texts", compared),
        ("minimum cosine", format!("{:.8}", found.min_cosine)),
        ("1st percentile", format!("{:.8}", found.p1_cosine)),
        ("mean cosine", format!("{:.8}", found.mean_cosine)),
        ("maximum MSE", format!("{:.2e}", found.max_mse)),
        ("mean MSE", format!("{:.2e}", found.mean_mse)),
        ("threshold", found.threshold.to_string()),
        ("status", if found.passed { "PASS".to_owned() } else { format!("FAIL ({failed} texts)") }),
    ]);
    let mut texts: Vec<_> = found.texts.iter().collect();
    // NaN is the worst.
    let rank = |cosine: f64| if cosine.is_nan() { f64::NEG_INFINITY } else { cosine };
    texts.sort_by(|a, b| rank(a.cosine).total_cmp(&rank(b.cosine)));
    texts.truncate(if all { usize::MAX } else { WORST_TEXTS });
    let mut rows = vec![["worst", "cosine", "MSE", ""].map(str::to_owned).to_vec()];
    rows.extend(texts.iter().map(|text| {
        let id = if text.id.is_empty() { format!("pairs[{}]", text.index) } else { text.id.clone() };
        let mark = if text.passed { "" } else { "FAIL" };
        vec![id, format!("{:.8}", text.cosine), format!("{:.2e}", text.mse), mark.to_owned()]
    }));
    out.push('\n');
    out + &table(&rows)
}

pub(super) fn benchmark(result: &BenchmarkResult) -> String {
    let head = ["tokens", "texts", "concurrency"].into_iter().chain(LATENCY).chain(["texts/s", "tokens/s"]);
    let mut rows = vec![head.map(str::to_owned).collect::<Vec<_>>()];
    rows.extend(result.rows.iter().map(|row| {
        let shape = [row.token_count, row.batch_size, row.concurrency].map(|number| number.to_string());
        let rates = [row.texts_per_second, row.tokens_per_second].map(|rate| format!("{rate:.1}"));
        shape.into_iter().chain(latency(row.latency.as_ref())).chain(rates).collect()
    }));
    table(&rows)
}

pub(super) fn stats(stats: &GetStatsResponse) -> String {
    let whole =
        |duration: &Option<prost_types::Duration>| Duration::from_secs(duration.as_ref().map_or(0.0, seconds) as u64);
    let mut out = pairs(&state(stats, whole(&stats.uptime)));
    let _ = writeln!(out, "\nlatencies of the last {:?}; replies since the start\n", whole(&stats.window));
    let head = |what: &str| [what].into_iter().chain(LATENCY).map(str::to_owned).collect::<Vec<_>>();
    let mut stages = vec![head("stage")];
    stages.extend(stats.stages.iter().map(|stage| row(stage.stage.clone(), stage.latency.as_ref(), None)));
    let mut methods = vec![[head("call"), vec!["replies".to_owned()]].concat()];
    let called = stats.methods.iter().filter(|method| !method.replies.is_empty());
    methods.extend(called.map(|method| row(method.method.clone(), method.latency.as_ref(), Some(replies(method)))));
    out + &table(&stages) + "\n" + &table(&methods)
}

/// Current values. Those that depend on a model are absent until the first one is loaded.
fn state(stats: &GetStatsResponse, uptime: Duration) -> Vec<(&'static str, String)> {
    let mut state = vec![("uptime", format!("{uptime:?}"))];
    if let Some(queue) = &stats.queue {
        let QueueStats { depth, capacity, refused, mean_batch_texts, mean_batch_tokens, .. } = queue;
        state.push(("queue", format!("{depth} of {capacity} texts, {refused} rejected")));
        state.push(("mean batch", format!("{mean_batch_texts:.2} texts, {mean_batch_tokens:.1} tokens")));
    }
    if let Some(sessions) = &stats.sessions {
        let SessionStats { busy, total, threads_per_session, .. } = sessions;
        state.push(("sessions", format!("{busy} of {total} busy, {threads_per_session} threads each")));
    }
    if let Some(cache) = &stats.cache {
        let CacheStats { hits, misses, evictions, entries, bytes, capacity_bytes, .. } = cache;
        state.push(("cache", format!("{hits} hits, {misses} misses, {evictions} evictions")));
        state.push(("cached", format!("{entries} entries, {bytes} of {capacity_bytes} bytes")));
    }
    state
}

pub(super) fn reload(reloaded: &ReloadModelResponse) -> String {
    let mut out =
        pairs(&[("before", reloaded.previous_fingerprint.clone()), ("serving", reloaded.fingerprint.clone())]);
    out.push('\n');
    match &reloaded.validation {
        Some(found) => out + &validation(found, false),
        None => out + "  not validated: the bundle has no reference set\n",
    }
}

fn replies(method: &MethodStats) -> String {
    let mut replies: Vec<_> = method.replies.iter().collect();
    replies.sort();
    replies.iter().map(|(code, count)| format!("{} {count}", code_name(**code))).collect::<Vec<_>>().join(", ")
}

fn row(name: String, found: Option<&Latency>, more: Option<String>) -> Vec<String> {
    std::iter::once(name).chain(latency(found)).chain(more).collect()
}

/// The cells for [`LATENCY`]; missing values are dashes.
fn latency(latency: Option<&Latency>) -> [String; LATENCY.len()] {
    let dash = || "-".to_owned();
    let Some(latency) = latency else { return std::array::from_fn(|_| dash()) };
    let ms = |time: &Option<prost_types::Duration>| {
        time.as_ref().map_or_else(dash, |time| format!("{:.3}", seconds(time) * 1e3))
    };
    let Latency { count, mean, p50, p95, p99, max } = latency;
    [count.to_string(), ms(mean), ms(p50), ms(p95), ms(p99), ms(max)]
}

fn pairs(pairs: &[(&str, String)]) -> String {
    pairs.iter().map(|(what, value)| format!("  {what:22}{value}\n")).collect()
}

/// Aligns columns: the first one and a last one of text to the left, numbers to the right.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &'_ [String], column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| cell(row, column)).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:width$}"),
            _ if cell.starts_with(char::is_alphabetic) && column + 1 == columns => cell.clone(),
            _ => format!("{cell:>width$}"),
        });
        format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["call", "count", "replies"], ["Embed", "7", "OK 7"], ["GetModel", "123", "OK 120, CANCELLED 3"]];
        let rows: Vec<Vec<String>> = rows.map(|row| row.map(str::to_owned).to_vec()).to_vec();
        let expected = "  call      count  replies\n  Embed         7  OK 7\n  GetModel    123  OK 120, CANCELLED 3\n";
        assert_eq!(table(&rows), expected);
    }
}
