//! Models are proven: `embedd validate`, `bench` and `report` on a real bundle.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use embedd_kernels::InstructionSet;
use serde_json::Value;

use crate::support::models::{Model, fetcher};
use crate::support::reference::{self, LEAST, LEAST_MEAN};
use crate::support::server::{command, temporary_folder};
use crate::support::skips::cpu_has;

/// A command on the bundle of MiniLM.
fn on_bundle(name: &str, flags: &[&str]) -> Command {
    let runtime = fetcher().runtime().expect("ONNX Runtime can be fetched");
    let mut command = command();
    command.arg(name).arg("--bundle").arg(Model::MiniLm.bundle()).arg("--onnxruntime").arg(runtime).args(flags);
    command
}

fn run(name: &str, flags: &[&str]) -> Output {
    on_bundle(name, flags).output().expect("the program runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(output)))
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("a code")
}

#[test]
fn the_model_has_the_embeddings_of_pytorch_and_validate_says_so() {
    let output = run("validate", &["--json", "--variant", "fp32"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let found = json(&output);
    let number = |of: &Value| of.as_f64().expect("a number");
    assert!(number(&found["summary"]["min_cosine"]) > 0.99999, "{}", found["summary"]);
    assert!(number(&found["batch_agreement"]) > 0.99999);
    assert_eq!(found["summary"]["passed"], true);
    assert_eq!(found["texts"].as_array().map(Vec::len), Some(253));
    assert_eq!(found["variant"], "fp32");
}

/// Conversion proved the native model by the fastest kernels of this machine; others may have less.
#[test]
fn the_native_model_passes_by_256_bit_vectors_too() {
    if !cpu_has(InstructionSet::Avx2) {
        return;
    }
    let output = run("validate", &["--json", "--variant", "native", "--instruction-set", "avx2"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let found = json(&output);
    let number = |of: &Value| of.as_f64().expect("a number");
    let summary = &found["summary"];
    assert_eq!((&found["variant"], &summary["texts"]), (&"native".into(), &253.into()));
    assert!(number(&summary["min_cosine"]) >= LEAST && number(&summary["mean_cosine"]) >= LEAST_MEAN, "{summary}");
    assert!(number(&found["batch_agreement"]) > 0.999_999_999, "alone and in batches: {}", found["batch_agreement"]);
}

#[test]
fn a_threshold_that_is_missed_ends_with_2_and_the_worst_texts() {
    let output = run("validate", &["--variant", "fp32", "--min-cosine", "1.0"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    let table = stdout(&output);
    assert!(table.contains("FAIL ("), "{table}");
    assert_eq!(table.lines().filter(|line| line.ends_with("FAIL")).count(), 10, "{table}");
}

#[test]
fn the_model_agrees_with_itself_on_texts_of_a_file() {
    let (_folder, folder) = temporary_folder();
    let texts = folder.join("texts.txt");
    fs::write(&texts, "one text\nanother text\n").expect("written");
    let texts = texts.to_str().expect("text");
    let output = run("validate", &["--against", "fp32", "--texts", texts, "--variant", "fp32", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let found = json(&output);
    assert_eq!(found["summary"]["texts"], 2);
    assert!(found["summary"]["min_cosine"].as_f64().is_some_and(|least| least > 0.999_999_9));

    let output = run("validate", &["--against", "fp32", "--texts", "/nowhere/at/all"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("/nowhere/at/all"), "{}", stderr(&output));
}

#[test]
fn a_reference_set_of_another_model_or_a_damaged_one_is_refused() {
    let output = run("validate", &["--reference", reference::path(Model::Mpnet).to_str().expect("text")]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("384") && stderr(&output).contains("768"), "{}", stderr(&output));

    let (_folder, folder) = temporary_folder();
    let damaged = folder.join("damaged.safetensors");
    let whole = fs::read(reference::path(Model::MiniLm)).expect("a file");
    fs::write(&damaged, &whole[..whole.len() / 2]).expect("written");
    let output = run("validate", &["--reference", damaged.to_str().expect("text")]);
    assert_eq!(code(&output), 1);
    let error = stderr(&output);
    assert!(
        error.contains("damaged.safetensors is no reference set") && error.contains("make_reference.py"),
        "{error}"
    );
}

#[test]
fn nonsense_ends_with_64() {
    for (name, flags) in [
        ("validate", &["--min-cosine", "1.1"][..]),
        ("validate", &["--min-cosine", "NaN"]),
        ("validate", &["--variant", "int2"]),
        ("validate", &["--against", "fp32"]),
        ("validate", &["--texts", "x"]),
        ("validate", &["--threads", "0"]),
        ("bench", &["--runs", "0"]),
        ("bench", &["--lengths", "11,x"]),
    ] {
        let output = run(name, flags);
        assert_eq!(code(&output), 64, "{name} {flags:?}: {}", stderr(&output));
    }
}

#[test]
fn bench_times_every_model_of_the_bundle() {
    let output = run("bench", &["--lengths", "11", "--batches", "1,2", "--runs", "3", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let found = json(&output);
    let rows = found["latency"].as_array().expect("rows");
    let of_fp32: Vec<&Value> = rows.iter().filter(|row| row["engine"] == "fp32").collect();
    assert_eq!(of_fp32.iter().map(|row| &row["batch"]).collect::<Vec<_>>(), [1, 2]);
    for row in of_fp32 {
        assert_eq!((&row["tokens"], &row["measured"]["runs"]), (&Value::from(11), &Value::from(3)));
        let (least, most) = (row["min_ms"].as_f64(), row["p95_ms"].as_f64());
        assert!(least > Some(0.0) && least <= most, "{row}");
    }
    assert!(found["machine"]["cpus_available"].as_u64() > Some(0));

    let output = run("bench", &["--lengths", "100000", "--runs", "3"]);
    assert_eq!(code(&output), 64, "beyond any model");
    let output = run("bench", &["--lengths", "400", "--runs", "3"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("3 to 256"), "{}", stderr(&output));
}

#[test]
fn a_baseline_is_read_from_standard_input_and_one_of_another_model_is_rejected() {
    let engines = r#""engines": {"pytorch": {"cos_min": 1.0, "L11": {"p50": 1000, "p95": 1001, "min": 999}}}"#;
    let bench = |model: &str| {
        let mut command = on_bundle("bench", &["--lengths", "11", "--runs", "3", "--json", "--baseline", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        write!(stdin, r#"{{"model": "{model}", {engines}}}"#).expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("it ends")
    };
    let output = bench("all-MiniLM-L6-v2");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let found = json(&output);
    let rows = found["latency"].as_array().expect("rows");
    assert!(rows.iter().all(|row| row["engine"] != "fp32" || row["speed_up"].as_f64() > Some(1.0)), "{found}");
    let pytorch = rows.iter().find(|row| row["engine"] == "pytorch").expect("a row");
    assert!(pytorch["from"].as_str().is_some_and(|from| from == "standard input"));

    let output = bench("all-mpnet-base-v2");
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("cannot be compared"), "{}", stderr(&output));
}

#[test]
fn report_writes_three_files() {
    let (_folder, folder) = temporary_folder();
    let output = folder.join("report");
    let flags = ["--lengths", "11,32", "--runs", "3", "--output", output.to_str().expect("text")];
    let done = run("report", &flags);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    let read = |name: &str| fs::read_to_string(Path::new(&output).join(name)).expect(name);
    let report: Value = serde_json::from_str(&read("report.json")).expect("JSON");
    assert_eq!(report["schema"], 1);
    assert_eq!(report["variants"][0]["worst"].as_array().map(Vec::len), Some(10));
    let markdown = read("report.md");
    assert!(markdown.contains("Status: PASS") && markdown.contains(Model::MiniLm.name()));
    let html = read("report.html");
    assert!(html.contains("<svg") && !html.contains("<script") && !html.contains("src="));
    assert_eq!(stdout(&done).lines().count(), 3);
}
