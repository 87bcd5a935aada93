//! Results as an HTML page.

use super::super::figures::{Latency, Results, StepFigures};
use super::super::plan::Step;
use super::{load, plural, problems, rate, sessions};
use embedd_common::page::plot::{Lines, Series};
use embedd_common::page::{card, escape, figure, ms, page, section, table};

pub(super) fn render(results: &Results) -> String {
    let server = &results.server;
    let open = results.steps.iter().any(|step| matches!(step.step, Step::Open { .. }));
    let (caption, unit) =
        if open { ("offered requests per second", "requests/s") } else { ("concurrent callers", "callers") };
    let parts = [
        format!("<h1>{}</h1>", escape(&server.model)),
        format!("<p class=\"sub\">Load test, {}: {}</p>", escape(&results.client.date), escape(&results.about())),
        cards(results),
        section("Throughput", &figure(throughput(results, caption, unit), "")),
        section("Latency", &figure(latency(results, caption, unit), &all_figures(results))),
        failures(results),
        section("Environment", &environment(results)),
    ];
    page(&format!("{}: load test", server.model), &parts.join("\n"))
}

fn cards(results: &Results) -> String {
    let mut cards = String::new();
    let measured = || results.steps.iter().filter_map(|step| Some((step, step.latency?)));
    if let Some((step, latency)) = measured().max_by(|a, b| a.0.texts_per_s.total_cmp(&b.0.texts_per_s)) {
        let below = format!("at {}, P50 {} ms, P99 {} ms", load(&step.step), ms(latency.p50_ms), ms(latency.p99_ms));
        cards += &card("maximum throughput", &format!("{} texts/s", rate(step.texts_per_s)), &below, "");
    }
    if let Some((step, latency)) = measured().min_by(|a, b| a.1.p50_ms.total_cmp(&b.1.p50_ms)) {
        let below =
            format!("P50 at {}, P95 {} ms, P99 {} ms", load(&step.step), ms(latency.p95_ms), ms(latency.p99_ms));
        cards += &card("minimum latency", &format!("{} ms", ms(latency.p50_ms)), &below, "");
    }
    let failed: u64 = results.steps.iter().map(|step| step.codes.values().sum::<u64>() - step.requests).sum();
    let below = format!("of {} over all steps", plural(results.requests() + failed, "request"));
    cards += &card("failed", &failed.to_string(), &below, "");
    if results.settings.verify {
        let mismatches = results.mismatches();
        let texts: u64 = results.steps.iter().map(|step| step.texts).sum();
        let below = format!("of {texts} embeddings differ from those of the same texts alone");
        let class = if mismatches == 0 { "pass" } else { "fail" };
        cards += &card("mismatches", &mismatches.to_string(), &below, class);
    }
    format!("<div class=\"cards\">\n{cards}</div>")
}

fn series(results: &Results, name: &str, of: impl Fn(&StepFigures) -> Option<f64>) -> Series {
    let points = results.steps.iter().filter_map(|step| Some((step.step.load(), of(step)?))).collect();
    Series { name: name.to_owned(), elsewhere: false, points }
}

fn throughput(results: &Results, x_caption: &str, x_unit: &str) -> Option<String> {
    let lines = Lines {
        title: "Texts per second by load",
        x_caption,
        x_unit,
        y_name: "throughput",
        y_unit: "texts/s",
        y_text: rate,
        series: vec![series(results, "texts/s", |step| Some(step.texts_per_s))],
    };
    lines.svg()
}

fn latency(results: &Results, x_caption: &str, x_unit: &str) -> Option<String> {
    let of = |name: &str, value: fn(&Latency) -> f64| series(results, name, |step| step.latency.as_ref().map(value));
    let lines = Lines {
        title: "Latency in ms by load: P50, P95 and P99",
        x_caption,
        x_unit,
        y_name: "latency",
        y_unit: "ms",
        y_text: ms,
        series: vec![of("P50", |l| l.p50_ms), of("P95", |l| l.p95_ms), of("P99", |l| l.p99_ms)],
    };
    lines.svg()
}

fn all_figures(results: &Results) -> String {
    let head = [
        "load", "requests", "req/s", "texts/s", "tokens/s", "mean", "P50", "P90", "P95", "P99", "P99.9", "max",
        "queue", "infer", "overhead", "cached", "CPU", "codes",
    ];
    let rows = results.steps.iter().map(|step| {
        let latency = |value: fn(&Latency) -> f64| step.latency.as_ref().map_or(String::new(), |l| ms(value(l)));
        let times = step.times.map(|times| [times.queue_p50_ms, times.infer_p50_ms, times.overhead_p50_ms].map(ms));
        let [queue, infer, overhead] = times.unwrap_or_default();
        let codes: Vec<String> = step.codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
        [
            load(&step.step),
            step.requests.to_string(),
            rate(step.requests_per_s),
            rate(step.texts_per_s),
            rate(step.tokens_per_s),
            latency(|l| l.mean_ms),
            latency(|l| l.p50_ms),
            latency(|l| l.p90_ms),
            latency(|l| l.p95_ms),
            latency(|l| l.p99_ms),
            latency(|l| l.p99_9_ms),
            latency(|l| l.max_ms),
            queue,
            infer,
            overhead,
            format!("{:.0} %", step.cached_share * 100.0),
            step.client_cpu.map_or(String::new(), |share| format!("{:.0} %", share * 100.0)),
            codes.join(", "),
        ]
    });
    let about = "<p>Latencies in ms. Queue and infer: P50 as measured by the server; overhead: P50 of the rest of the \
                 latency. CPU: use by the load generator, where 100 % is one CPU.</p>\n";
    about.to_owned() + &table(head, rows, 0..17)
}

fn failures(results: &Results) -> String {
    let items = results.steps.iter().flat_map(|step| {
        let at = load(&step.step);
        problems(step).into_iter().map(move |problem| format!("<li>at {at}: {}</li>\n", escape(&problem)))
    });
    let items: String = items.collect();
    if items.is_empty() { String::new() } else { section("Failures", &format!("<ul>\n{items}</ul>")) }
}

fn environment(results: &Results) -> String {
    let server = &results.server;
    let client = &results.client;
    let rows = [
        ("server", server.address.clone()),
        ("engine", format!("{} ({}), quantization {}", server.engine, server.instruction_set, server.quantization)),
        ("sessions", sessions(server)),
        ("embedd", format!("{}, ONNX Runtime {}", server.version, server.onnxruntime_version)),
        ("load generator", format!("embedd {}, {}, {} CPUs, {}", client.version, client.cpu, client.cpus, client.os)),
    ];
    table(["component", "details"], rows.map(|(what, value)| [what.to_owned(), value]), 0..0)
}
