//! The report as Markdown.

use std::fmt::Write as _;

use super::format::{code, cosine, error, markdown as escape, megabytes, overlap, percent, verdict};
use super::{LatencyRow, Report, VariantReport};
use crate::baseline::PYTORCH;
use crate::machine::Machine;
use embedd_common::page::ms;

pub(super) fn render(report: &Report) -> String {
    let parts = [
        headline(report),
        models(report),
        accuracy(report),
        worst(report),
        recipes(report),
        latency(report),
        machine(report),
    ];
    parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// The summary: the model that is served by default, compared with PyTorch for the shortest timed text.
fn headline(report: &Report) -> String {
    let mut out = format!("# ONNX Conversion Report\n\n{}\n\n```\n", escape(&report.model.name));
    let Some(variant) = report.variants.last() else { return out + "The bundle has no models.\n```\n" };
    let precision = variant.precision.as_deref().unwrap_or("other");
    write(&mut out, format_args!("Model:        {}\n", code(&report.model.name)));
    write(&mut out, format_args!("Quantization: {} ({precision})\n", code(&variant.recipe)));
    write(&mut out, format_args!("Date:         {}\n\n", report.machine.date));
    out += &performance(report, variant);
    out += &sizes(report, variant);
    match &variant.accuracy {
        Some(accuracy) => {
            let summary = &accuracy.summary;
            let min = cosine(summary.min_cosine);
            let mean = cosine(summary.mean_cosine);
            write(
                &mut out,
                format_args!(
                    "Accuracy ({} texts):\n  Cosine similarity: min {min}, mean {mean} (threshold: {})\n",
                    summary.texts, summary.threshold,
                ),
            );
            if let Some(share) = variant.top10_overlap {
                write(&mut out, format_args!("  Top-10 overlap: {}\n", overlap(share)));
            }
            write(&mut out, format_args!("  Status: {}\n\n", verdict(summary.passed)));
        }
        None => out += "Accuracy:\n  not measured\n\n",
    }
    let cores = report.machine.cores.map_or(String::new(), |cores| format!("{cores}, "));
    let cpu = code(report.machine.cpu_name());
    let cpus = report.machine.cpus_available;
    write(&mut out, format_args!("CPU:\n  Model: {cpu}\n  Cores: {cores}{cpus} CPUs available\n"));
    if let Some(gpu) = &report.machine.gpu {
        write(&mut out, format_args!("\nGPU:\n  {}\n", code(gpu)));
    }
    out += "```\n";
    out
}

fn performance(report: &Report, variant: &VariantReport) -> String {
    let name = variant.variant.to_string();
    let own = report.latency.iter().filter(|row| row.from.is_none() && row.batch == 1 && row.engine == name);
    let Some(own) = own.min_by_key(|row| row.tokens) else { return "Performance:\n  not measured\n\n".to_owned() };
    let mut out = format!("Performance (P50, one text of {} tokens, inference only):\n", own.tokens);
    let of_pytorch = |row: &&LatencyRow| row.engine == PYTORCH && row.tokens == own.tokens && row.batch == 1;
    let mut line = |label: &str, row: &LatencyRow| {
        let from =
            row.from.as_ref().map_or_else(String::new, |from| format!("  [from {}, a separate run]", code(from)));
        let p50 = ms(row.p50_ms);
        let p95 = ms(row.p95_ms);
        write(&mut out, format_args!("  {label:14} {p50} ms (P95: {p95} ms){from}\n"));
    };
    let pytorch = report.latency.iter().find(of_pytorch);
    if let Some(row) = pytorch {
        line("PyTorch FP32:", row);
    }
    line(&format!("ONNX {}:", variant.precision.as_deref().unwrap_or(&name)), own);
    match own.speed_up {
        Some(speed_up) => {
            write(&mut out, format_args!("  Speedup:       {speed_up:.1}x (ratio of the P50s of two runs)\n\n"));
        }
        None => out += "  Speedup:       unknown: no PyTorch baseline\n\n",
    }
    out
}

fn sizes(report: &Report, variant: &VariantReport) -> String {
    let mut out = "Model Size:\n".to_owned();
    if let Some(bytes) = report.model.source_weights_bytes {
        write(&mut out, format_args!("  Original:  {}\n", megabytes(bytes)));
    }
    match variant.reduction {
        Some(saved) => {
            write(
                &mut out,
                format_args!("  Quantized: {}\n  Reduction: {}\n", megabytes(variant.bytes), percent(saved)),
            );
        }
        None => {
            write(
                &mut out,
                format_args!("  ONNX:      {}\n  Quantized: not in this bundle\n", megabytes(variant.bytes)),
            );
        }
    }
    out + "\n"
}

pub(super) fn models(report: &Report) -> String {
    let model = &report.model;
    let mut out = format!(
        "## Models\n\n{}: `{}`, {} dimensions, at most {} tokens, {} pooling. Source weights: sha256 `{}`.\n\n",
        escape(&model.name),
        code(&model.architecture),
        model.dimension,
        model.max_tokens,
        model.pooling,
        model.source_weights_sha256
    );
    out += "| model | file | recipe | precision | size | reduction vs. fp32 |\n|---|---|---|---|---:|---:|\n";
    for variant in &report.variants {
        let cells = [
            variant.variant.to_string(),
            escape(&variant.file),
            escape(&variant.recipe),
            variant.precision.clone().unwrap_or_default(),
            megabytes(variant.bytes),
            variant.reduction.map_or(String::new(), percent),
        ];
        write(&mut out, format_args!("| {} |\n", cells.join(" | ")));
    }
    out
}

pub(super) fn accuracy(report: &Report) -> String {
    let Some(reference) = &report.reference else { return "## Accuracy\n\nNot measured.\n".to_owned() };
    let mut out = format!(
        "## Accuracy\n\nCosine to the reference embeddings of {} texts ({}), each text alone. Top-10 overlap: each text \
         is a query, and the others are ranked by their cosine to it; the mean share of its ten nearest texts that are \
         also among the ten nearest by the reference embeddings, which are float32. Batch agreement: the minimum cosine \
         between a text alone and in a padded batch.\n\n| model | min cosine | P1 | mean | max MSE | mean MSE | \
         top-10 overlap | threshold | status | batch agreement \
         |\n|---|---:|---:|---:|---:|---:|---:|---:|---|---:|\n",
        reference.texts,
        escape(&reference.origin)
    );
    for variant in &report.variants {
        let Some(accuracy) = &variant.accuracy else { continue };
        let summary = &accuracy.summary;
        let cells = [
            variant.variant.to_string(),
            cosine(summary.min_cosine),
            cosine(summary.p1_cosine),
            cosine(summary.mean_cosine),
            error(summary.max_mse),
            error(summary.mean_mse),
            variant.top10_overlap.map_or("n/a".to_owned(), overlap),
            summary.threshold.to_string(),
            verdict(summary.passed).to_owned(),
            variant.batch_agreement.map_or("n/a".to_owned(), cosine),
        ];
        write(&mut out, format_args!("| {} |\n", cells.join(" | ")));
    }
    out
}

pub(super) fn worst(report: &Report) -> String {
    let mut out = String::new();
    for variant in report.variants.iter().filter(|variant| !variant.worst.is_empty()) {
        let count = variant.worst.len();
        write(&mut out, format_args!("### Worst {count} texts of {}\n\n", variant.variant));
        out += "| text | tokens | cosine | MSE | excerpt |\n|---|---:|---:|---:|---|\n";
        for text in &variant.worst {
            let id = escape(&text.figures.id);
            let tokens = text.figures.tokens;
            let cosine = cosine(text.figures.cosine);
            let error = error(text.figures.mse);
            let excerpt = escape(&text.excerpt);
            write(&mut out, format_args!("| {id} | {tokens} | {cosine} | {error} | {excerpt} |\n"));
        }
        out.push('\n');
    }
    out.trim_end_matches('\n').to_owned() + if out.is_empty() { "" } else { "\n" }
}

pub(super) fn recipes(report: &Report) -> String {
    if report.recipes.is_empty() {
        return String::new();
    }
    let mut out = "## Recipes tried\n\n| recipe | precision | size | min cosine | mean | top-10 overlap | accepted | \
                   reason |\n|---|---|---:|---:|---:|---:|---|---|\n"
        .to_owned();
    for tried in &report.recipes {
        let cells = [
            escape(&tried.recipe),
            tried.precision.as_deref().map(escape).unwrap_or_default(),
            tried.bytes.map_or(String::new(), megabytes),
            tried.accuracy.as_ref().map_or("not measured".to_owned(), |summary| cosine(summary.min_cosine)),
            tried.accuracy.as_ref().map_or(String::new(), |summary| cosine(summary.mean_cosine)),
            tried.top10_overlap.map_or(String::new(), overlap),
            (if tried.accepted { "yes" } else { "no" }).to_owned(),
            tried.reason.as_deref().map(escape).unwrap_or_default(),
        ];
        write(&mut out, format_args!("| {} |\n", cells.join(" | ")));
    }
    out
}

pub(super) fn latency(report: &Report) -> String {
    if report.latency.is_empty() {
        return "## Latency\n\nNot measured.\n".to_owned();
    }
    let mut out = "## Latency\n\nTimes in ms, for inference only: token ids in, embeddings out.".to_owned();
    if let Some(threads) = report.threads {
        write(&mut out, format_args!(" {threads} threads. Engines without a source took turns in one process."));
    }
    out.push('\n');
    out += &baselines(report);
    out += "\n### All measurements\n\n| engine | source | tokens | batch | runs | mean | P50 | P95 | P99 | min | texts/s | tokens/s | speedup vs. \
            PyTorch |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
    for row in &report.latency {
        let measured = row.measured.as_ref();
        let cells = [
            escape(&row.engine),
            row.from.as_deref().map(|from| format!("{}, separate run", escape(from))).unwrap_or_default(),
            row.tokens.to_string(),
            row.batch.to_string(),
            measured.map_or(String::new(), |measured| measured.runs.to_string()),
            measured.map_or(String::new(), |measured| ms(measured.mean_ms)),
            ms(row.p50_ms),
            ms(row.p95_ms),
            measured.map_or(String::new(), |measured| ms(measured.p99_ms)),
            ms(row.min_ms),
            measured.map_or(String::new(), |measured| format!("{:.1}", measured.texts_per_s)),
            measured.map_or(String::new(), |measured| format!("{:.0}", measured.tokens_per_s)),
            row.speed_up.map_or(String::new(), |speed_up| format!("{speed_up:.1}")),
        ];
        write(&mut out, format_args!("| {} |\n", cells.join(" | ")));
    }
    out
}

fn baselines(report: &Report) -> String {
    let mut out = String::new();
    for baseline in &report.baselines {
        let threads = baseline.threads.map_or(String::new(), |threads| format!(", {threads} threads"));
        write(&mut out, format_args!("\nSource {}{threads}: a separate run.", escape(&baseline.origin)));
        if let Some(timing) = baseline.pytorch_encode_short {
            let p50 = ms(timing.p50);
            let p95 = ms(timing.p95);
            write(
                &mut out,
                format_args!(" PyTorch's `encode()` of 11 tokens, including tokenization: {p50} ms (P95 {p95})."),
            );
        }
        let cosines = baseline.min_cosines.iter().map(|(name, min)| format!("{} {}", escape(name), cosine(*min)));
        let cosines = cosines.collect::<Vec<_>>().join(", ");
        if !cosines.is_empty() {
            write(&mut out, format_args!(" Minimum cosines to PyTorch on the texts of that run: {cosines}."));
        }
        out.push('\n');
    }
    out
}

pub(super) fn machine(report: &Report) -> String {
    let mut out = "## Machine\n\n| property | value |\n|---|---|\n".to_owned();
    for (property, value) in machine_rows(&report.machine) {
        write(&mut out, format_args!("| {property} | {} |\n", escape(&value)));
    }
    out
}

fn machine_rows(machine: &Machine) -> Vec<(&'static str, String)> {
    let mut rows = vec![("CPU", machine.cpu_name().to_owned())];
    rows.extend(machine.cores.map(|cores| ("cores", cores.to_string())));
    rows.push(("CPUs available", machine.cpus_available.to_string()));
    rows.push(("instruction set", machine.instruction_set.clone()));
    if !machine.instruction_sets.is_empty() {
        rows.push(("CPU flags", machine.instruction_sets.join(" ")));
    }
    rows.extend(machine.gpu.clone().map(|gpu| ("GPU", gpu)));
    rows.push(("system", machine.os.clone()));
    rows.push(("embedd", machine.embedd.clone()));
    rows.push(("ONNX Runtime", machine.onnxruntime.clone()));
    rows.push(("date", machine.date.clone()));
    rows
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}
