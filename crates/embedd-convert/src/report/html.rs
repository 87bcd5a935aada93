//! The report as one HTML page: no scripts, nothing from elsewhere, well-formed as XML, too.

use super::format::{cosine, error, megabytes, percent, verdict};
use super::{Report, plot};
use crate::machine::Machine;
use embedd_common::page::{card, escape, figure, ms, page, section, table};

pub(super) fn render(report: &Report) -> String {
    let name = escape(&report.model.name);
    let parts = [
        summary(report),
        section("Latency", &latency(report)),
        section("Accuracy", &accuracy(report)),
        section("File sizes", &figure(plot::sizes(report), &models(report))),
        recipes(report),
        section("Machine", &machine(report)),
    ];
    let title = format!("{}: conversion report", report.model.name);
    let date = escape(&report.machine.date);
    let body = format!("<h1>{name}</h1>\n<p class=\"sub\">ONNX conversion report, {date}</p>\n{}", parts.join("\n"));
    page(&title, &body)
}

fn summary(report: &Report) -> String {
    let mut cards = String::new();
    for variant in &report.variants {
        let name = variant.variant.to_string();
        if let Some(accuracy) = &variant.accuracy {
            let (least, threshold) = (cosine(accuracy.summary.min_cosine), accuracy.summary.threshold);
            let verdict = verdict(accuracy.summary.passed);
            let below = format!("least cosine of {} texts, threshold {threshold}: {verdict}", accuracy.summary.texts);
            cards += &card(&format!("{name}: accuracy"), &least, &below, &verdict.to_lowercase());
        }
        let own = |row: &&super::LatencyRow| row.from.is_none() && row.batch == 1 && row.engine == name;
        if let Some(row) = report.latency.iter().filter(own).min_by_key(|row| row.tokens) {
            let speed_up = row
                .speed_up
                .map_or(String::new(), |times| format!(", {times:.1} times PyTorch's speed in another run"));
            let below = format!("P50 of {} tokens, P95 {} ms{speed_up}", row.tokens, ms(row.p95_ms));
            cards += &card(&format!("{name}: latency"), &format!("{} ms", ms(row.p50_ms)), &below, "");
        }
        let below = variant.reduction.map_or(String::new(), |saved| format!("{} less than fp32", percent(saved)));
        cards += &card(&format!("{name}: size"), &megabytes(variant.bytes), &below, "");
    }
    format!("<div class=\"cards\">\n{cards}</div>")
}

fn latency(report: &Report) -> String {
    if report.latency.is_empty() {
        return "<p>Not measured.</p>".to_owned();
    }
    let head = ["engine", "tokens", "batch", "mean", "P50", "P95", "P99", "min", "texts/s", "× PyTorch", "from"];
    let rows = report.latency.iter().map(|row| {
        let measured = row.measured.as_ref();
        [
            row.engine.clone(),
            row.tokens.to_string(),
            row.batch.to_string(),
            measured.map_or(String::new(), |measured| ms(measured.mean_ms)),
            ms(row.p50_ms),
            ms(row.p95_ms),
            measured.map_or(String::new(), |measured| ms(measured.p99_ms)),
            ms(row.min_ms),
            measured.map_or(String::new(), |measured| format!("{:.1}", measured.texts_per_s)),
            row.speed_up.map_or(String::new(), |times| format!("{times:.1}")),
            row.from.as_ref().map_or("this run".to_owned(), |from| format!("{from}, another run")),
        ]
    });
    let mut about = "<p>P50 in ms of inference alone: token ids in, embeddings out.".to_owned();
    if let Some(threads) = report.threads {
        about += &format!(" {threads} threads; the engines of this run took turns in one process.");
    }
    for baseline in &report.baselines {
        let threads = baseline.threads.map_or(String::new(), |threads| format!(" ({threads} threads)"));
        about += &format!(" Dashed lines are from {}{threads}, another run.", escape(&baseline.origin));
        if let Some(timing) = baseline.pytorch_encode_short {
            let p50 = ms(timing.p50);
            about +=
                &format!(" PyTorch’s <code>encode()</code> of 11 tokens, tokenizer included, took {p50} ms there.");
        }
    }
    let below = format!("<details><summary>All figures</summary>\n{}</details>", table(head, rows, 1..10));
    about + "</p>\n" + &figure(plot::latency(report), &below)
}

fn accuracy(report: &Report) -> String {
    let Some(reference) = &report.reference else { return "<p>Not measured.</p>".to_owned() };
    let head =
        ["model", "least", "1 % under", "mean", "greatest MSE", "mean MSE", "batch agreement", "threshold", "status"];
    let compared = report.variants.iter().filter_map(|entry| Some((entry, &entry.accuracy.as_ref()?.summary)));
    let rows = compared.map(|(entry, summary)| {
        [
            entry.variant.to_string(),
            cosine(summary.min_cosine),
            cosine(summary.p1_cosine),
            cosine(summary.mean_cosine),
            error(summary.max_mse),
            error(summary.mean_mse),
            entry.batch_agreement.map_or("none".to_owned(), cosine),
            summary.threshold.to_string(),
            verdict(summary.passed).to_owned(),
        ]
    });
    let mut below = table(head, rows, 1..8);
    for entry in report.variants.iter().filter(|entry| !entry.worst.is_empty()) {
        let title = format!("The {} worst texts of {}", entry.worst.len(), entry.variant);
        below += &format!("<details><summary>{title}</summary>\n{}</details>\n", worst(&entry.worst));
    }
    let about = format!(
        "<p>Cosine to PyTorch’s embeddings of {} texts ({}), each text alone. Batch agreement: the least cosine between a \
         text alone and in a padded batch.</p>\n",
        reference.texts,
        escape(&reference.origin)
    );
    about + &figure(plot::cosines(report), &below)
}

fn worst(texts: &[super::WorstText]) -> String {
    let rows = texts.iter().map(|text| {
        let figures = &text.figures;
        let (cosine, error) = (cosine(figures.cosine), error(figures.mse));
        [figures.id.clone(), figures.tokens.to_string(), cosine, error, text.excerpt.clone()]
    });
    table(["text", "tokens", "cosine", "MSE", "begins"], rows, 1..4)
}

fn models(report: &Report) -> String {
    let rows = report.variants.iter().map(|entry| {
        [
            entry.variant.to_string(),
            entry.file.clone(),
            entry.recipe.clone(),
            entry.precision.clone().unwrap_or_default(),
            megabytes(entry.bytes),
            entry.reduction.map_or(String::new(), percent),
        ]
    });
    let model = &report.model;
    let head = ["model", "file", "recipe", "precision", "size", "reduction against fp32"];
    let source = format!(
        "<p>{}, {} dimensions, {} tokens at most, {} pooling. Source weights: sha256 <code>{}</code></p>\n",
        escape(&model.architecture),
        model.dimension,
        model.max_tokens,
        escape(&model.pooling),
        model.source_weights_sha256
    );
    table(head, rows, 4..6) + &source
}

fn recipes(report: &Report) -> String {
    if report.recipes.is_empty() {
        return String::new();
    }
    let head = ["recipe", "precision", "size", "least cosine", "mean", "taken", "reason"];
    let rows = report.recipes.iter().map(|tried| {
        let summary = tried.accuracy.as_ref();
        [
            tried.recipe.clone(),
            tried.precision.clone().unwrap_or_default(),
            tried.bytes.map_or(String::new(), megabytes),
            summary.map_or("not measured".to_owned(), |summary| cosine(summary.min_cosine)),
            summary.map_or(String::new(), |summary| cosine(summary.mean_cosine)),
            (if tried.accepted { "yes" } else { "no" }).to_owned(),
            tried.reason.clone().unwrap_or_default(),
        ]
    });
    section("Recipes tried", &table(head, rows, 2..5))
}

fn machine(report: &Report) -> String {
    let rows = machine_rows(&report.machine).into_iter().map(|(what, value)| [what.to_owned(), value]);
    table(["what", "value"], rows, 0..0)
}

pub(super) fn machine_rows(machine: &Machine) -> Vec<(&'static str, String)> {
    let mut rows = vec![("CPU", machine.cpu_name().to_owned())];
    rows.extend(machine.cores.map(|cores| ("cores", cores.to_string())));
    rows.push(("CPUs available", machine.cpus_available.to_string()));
    rows.push(("instruction set", machine.instruction_set.clone()));
    if !machine.instruction_sets.is_empty() {
        rows.push(("CPU flags", machine.instruction_sets.join(" ")));
    }
    rows.push(("system", machine.os.clone()));
    rows.push(("embedd", machine.embedd.clone()));
    rows.push(("ONNX Runtime", machine.onnxruntime.clone()));
    rows.push(("date", machine.date.clone()));
    rows
}
