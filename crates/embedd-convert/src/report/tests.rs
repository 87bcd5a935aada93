use super::*;
use embedd_model::bundle::{FORMAT, FileRecord, ModelRecord, Pooling, SourceRecord};
use embedd_model::reference::ReferenceText;

const HOSTILE: &str = "<script>alert('&\"|`*\u{1}\u{202e}\u{ffff}";

fn record(text: &str, bytes: u64) -> FileRecord {
    FileRecord { sha256: Sha256Hex::of(text.as_bytes()), bytes }
}

fn manifest() -> Manifest {
    let model = |file: &str, recipe: &str| ModelRecord {
        file: file.to_owned(),
        weights: None,
        quantization: recipe.to_owned(),
        accuracy: None,
        accuracy_bf16: None,
    };
    let weights = record("weights", 440_000_000);
    Manifest {
        format: FORMAT,
        created_by: "embedd".to_owned(),
        name: format!("a/{HOSTILE}"),
        architecture: "mpnet".to_owned(),
        source: SourceRecord {
            weights_sha256: weights.sha256.clone(),
            revision: None,
            commit: None,
            files: [("model.safetensors".to_owned(), weights)].into(),
        },
        dimension: 2,
        max_tokens: 384,
        position_limit: 512,
        pooling: Pooling::mean(),
        lowercase: false,
        prompts: BTreeMap::new(),
        default_prompt: None,
        exclude_prompt: false,
        models: [
            (Variant::Fp32, model("model.onnx", "none")),
            (Variant::Portable, model("q.onnx", "dynamic-per-tensor")),
        ]
        .into(),
        files: [("model.onnx".to_owned(), record("a", 400_000_000)), ("q.onnx".to_owned(), record("b", 100_000_000))]
            .into(),
    }
}

fn machine() -> Machine {
    Machine { cpu: Some(HOSTILE.to_owned()), date: "2026-01-31T12:00:00Z".to_owned(), ..Machine::now("1.0.0") }
}

fn row(engine: &str, tokens: usize, p50_ms: f64) -> Measurement {
    Measurement {
        engine: engine.to_owned(),
        tokens,
        batch: 1,
        runs: 3,
        mean_ms: p50_ms,
        p50_ms,
        p95_ms: p50_ms * 2.0,
        p99_ms: p50_ms * 2.0,
        min_ms: p50_ms,
        texts_per_s: 1.0,
        tokens_per_s: 1.0,
    }
}

fn full() -> Report {
    let mut report = Report::of(&manifest(), machine());
    let text = |id: &str| ReferenceText {
        id: id.to_owned(),
        text: HOSTILE.to_owned(),
        embedding: vec![1.0, 0.0],
        token_count: 3,
    };
    let reference = ReferenceSet {
        texts: vec![text("a"), text(HOSTILE)],
        dimension: 2,
        max_tokens: 384,
        provenance: BTreeMap::new(),
    };
    let near = TextAccuracy::compare(0, "a", 3, &[1.0, 0.001], &[1.0, 0.0], 0.99);
    let wrong = TextAccuracy::compare(1, HOSTILE, 3, &[0.0, 0.0], &[1.0, 0.0], 0.99);
    let comparison = |texts: Vec<TextAccuracy>, agreement: f64| Comparison {
        accuracy: Accuracy::of(texts, 0.99),
        top10_overlap: Some(0.987_66),
        batch_agreement: Some(agreement),
    };
    report.add_comparison(Variant::Fp32, comparison(vec![near.clone()], 0.999_999), &reference);
    report.add_comparison(Variant::Portable, comparison(vec![near, wrong], f64::NAN), &reference);
    report.reference = Some(ReferenceSummary { origin: HOSTILE.to_owned(), texts: 2, provenance: BTreeMap::new() });
    report.add_latency(vec![row("fp32", 11, 10.0), row("portable", 11, 5.0), row("portable", 384, 80.0)], 2);
    let json = r#"{"engines": {"pytorch": {"cos_min": 1.0, "L11": {"p50": 40, "p95": 50, "min": 30}}}}"#;
    report.add_baseline(&Baseline::parse(json.as_bytes(), HOSTILE).expect("a baseline"));
    report.recipes.push(RecipeTried {
        recipe: "int8".to_owned(),
        precision: None,
        bytes: None,
        accuracy: None,
        top10_overlap: Some(0.5),
        worst: Vec::new(),
        accepted: false,
        reason: Some(HOSTILE.to_owned()),
    });
    report
}

fn assert_well_formed(report: &Report) {
    let html = report.to_html();
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let page =
        roxmltree::Document::parse_with_options(&html, options).unwrap_or_else(|error| panic!("{error}: {html}"));
    assert!(page.descendants().all(|node| !node.has_tag_name("script")));
    for attribute in page.descendants().flat_map(|node| node.attributes()) {
        assert!(!["src", "href"].contains(&attribute.name()), "no external resources");
    }
    assert!(!html.contains("url(") && !html.contains("@import"));
}

#[test]
fn the_gpu_is_named_if_there_is_one() {
    let gpu = Some("cuda:0 (NVIDIA L4)".to_owned());
    let report = Report::of(&manifest(), Machine { gpu, ..machine() });
    let markdown = report.to_markdown();
    assert!(markdown.contains("| GPU | cuda:0 (NVIDIA L4) |"), "{markdown}");
    assert!(markdown.contains("\nGPU:\n  cuda:0 (NVIDIA L4)\n```"), "{markdown}");
    assert!(!full().to_markdown().contains("GPU"));
    assert_well_formed(&Report::of(&manifest(), Machine { gpu: Some(HOSTILE.to_owned()), ..machine() }));
}

#[test]
fn the_page_is_well_formed_for_hostile_texts() {
    let report = full();
    assert_well_formed(&report);
    assert_eq!(report.to_html().matches("<svg").count(), 3);
    assert!(!report.to_html().contains("NaN"));
}

/// The page's tables are those of the Markdown, with texts unchanged except for characters that XML forbids.
#[test]
fn the_page_has_the_tables_of_the_markdown() {
    let report = full();
    let html = report.to_html();
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let page = roxmltree::Document::parse_with_options(&html, options).expect("well-formed");
    let rows = page.descendants().filter(|node| node.has_tag_name("tr")).count();
    let lines = report.to_markdown().lines().filter(|line| line.starts_with("| ")).count();
    assert_eq!(rows, lines);
    let mut cells = page.descendants().filter(|node| node.has_tag_name("td")).filter_map(|cell| cell.text());
    assert!(cells.any(|cell| cell == "<script>alert('&\"|`*"), "{html}");
    let collapsed = page.descendants().filter(|node| node.has_tag_name("summary")).filter_map(|node| node.text());
    let expected = ["All measurements", "Worst 1 texts of fp32", "Worst 2 texts of portable"];
    assert_eq!(collapsed.collect::<Vec<_>>(), expected);
}

#[test]
fn missing_measurements_are_reported() {
    let report = Report::of(&manifest(), machine());
    assert_well_formed(&report);
    assert_eq!(report.to_html().matches("<svg").count(), 1, "only sizes are known");
    assert_eq!(report.to_html().matches("Not measured").count(), 2);
    let markdown = report.to_markdown();
    assert!(markdown.contains("Accuracy:\n  not measured"), "{markdown}");
    assert!(markdown.contains("Performance:\n  not measured"), "{markdown}");
    assert!(!report.passed());
}

#[test]
fn the_summary_has_speed_size_and_accuracy() {
    let markdown = full().to_markdown();
    for line in [
        "Quantization: dynamic-per-tensor (INT8)\n",
        "  PyTorch FP32:  40.0 ms (P95: 50.0 ms)  [from",
        "  ONNX INT8:     5.00 ms (P95: 10.0 ms)\n",
        "  Speedup:       8.0x",
        "  Original:  440.0 MB",
        "  Quantized: 100.0 MB",
        "  Reduction: 75.0 %",
        "min n/a, mean n/a (threshold: 0.99)\n  Top-10 overlap: 98.76 %\n  Status: FAIL",
    ] {
        assert!(markdown.contains(line), "{line}\n{markdown}");
    }
}

#[test]
fn the_top_10_overlap_is_in_all_three_files() {
    let report = full();
    let markdown = report.to_markdown();
    assert!(markdown.contains("  Top-10 overlap: 98.76 %\n"), "{markdown}");
    let has = |line: &str, part: &str| line.contains(part) && line.contains("98.76 %");
    assert!(markdown.lines().any(|line| has(line, "| portable |")), "{markdown}");
    assert!(markdown.lines().any(|line| line.starts_with("| int8 |") && line.contains(" | 50.00 % |")), "{markdown}");
    assert!(report.to_html().contains("portable: top-10 overlap"));
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
    assert_eq!(json["variants"][1]["top10_overlap"], 0.987_66);
    assert_eq!(json["recipes"][0]["top10_overlap"], 0.5);
}

#[test]
fn markdown_tables_have_consistent_columns() {
    let markdown = full().to_markdown();
    let mut columns = None;
    for line in markdown.lines() {
        let found = line.starts_with('|').then(|| line.replace("\\|", "").matches('|').count());
        if let (Some(expected), Some(found)) = (columns, found) {
            assert_eq!(found, expected, "{line}");
        }
        columns = found;
    }
    let (_, after_code) = markdown.rsplit_once("```").expect("a block of code");
    assert!(!after_code.contains("<script"));
    assert_eq!(markdown.matches("```").count(), 2, "no text ends the code block");
}

#[test]
fn the_speed_up_needs_a_pytorch_timing() {
    let report = full();
    let speed_up = |engine: &str, tokens| {
        report.latency.iter().find(|row| row.engine == engine && row.tokens == tokens).and_then(|row| row.speed_up)
    };
    assert_eq!(speed_up("fp32", 11), Some(4.0));
    assert_eq!(speed_up("portable", 11), Some(8.0));
    assert_eq!(speed_up("portable", 384), None);
}

#[test]
fn a_report_is_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let [json, ..] = full().write(&folder.path().join("new")).expect("written");
    let read = Report::read(&json).expect("a report");
    // Compared as JSON: NaN is not equal to itself.
    assert_eq!(read.to_json(), full().to_json());
    fs::write(&json, "{\"schema\": 2}").expect("written");
    assert!(Report::read(&json).expect_err("another schema").to_string().contains("schema"));
}
