//! `embedd validate`, `bench` and `report`, on real bundles.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use embedd_fetch::RuntimeBuild;
use embedd_kernels::InstructionSet;
use embedd_model::bundle::Bundle;
use serde_json::Value;

use crate::support::models::{Model, fetcher};
use crate::support::reference::Nearness;
use crate::support::server::{command, temporary_folder};
use crate::support::skips::cpu_has;

/// A command on the bundle of a model.
fn on_bundle(name: &str, model: Model, flags: &[&str]) -> Command {
    let runtime = fetcher().runtime(RuntimeBuild::Cpu).expect("ONNX Runtime can be fetched").path;
    let mut command = command();
    command.arg(name).arg("--bundle").arg(model.bundle()).arg("--onnxruntime").arg(runtime).args(flags);
    command
}

fn run(name: &str, model: Model, flags: &[&str]) -> Output {
    on_bundle(name, model, flags).output().expect("the program runs")
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
fn validate_finds_that_the_float32_model_has_the_embeddings_of_pytorch() {
    let output = run("validate", Model::MiniLm, &["--json", "--variant", "fp32"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let found = json(&output);
    let number = |of: &Value| of.as_f64().expect("a number");
    assert!(number(&found["summary"]["min_cosine"]) > 0.99999, "{}", found["summary"]);
    assert!(number(&found["batch_agreement"]) > 0.99999);
    assert_eq!(found["summary"]["passed"], true);
    assert_eq!(found["texts"].as_array().map(Vec::len), Some(253));
    assert_eq!(found["variant"], "fp32");
}

/// The conversion validated the native model with this machine's fastest kernels, which other machines may not support.
#[test]
fn the_native_model_also_passes_with_the_kernels_for_avx2() {
    passes_with(InstructionSet::Avx2);
}

/// As on a CPU with AMX, alone and in batches.
#[test]
fn the_native_model_also_passes_with_activations_in_bfloat16() {
    passes_with(InstructionSet::EmulatedAmxBf16);
}

fn passes_with(set: InstructionSet) {
    if !cpu_has(set) {
        return;
    }
    let output = run("validate", Model::MiniLm, &["--json", "--variant", "native", "--instruction-set", set.name()]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let found = json(&output);
    let number = |of: &Value| of.as_f64().expect("a number");
    let summary = &found["summary"];
    assert_eq!((&found["variant"], &summary["texts"]), (&"native".into(), &253.into()));
    let near = Nearness::INT8.holds(number(&summary["min_cosine"]), number(&summary["mean_cosine"]));
    assert!(near, "{summary}");
    assert!(number(&found["batch_agreement"]) > 0.999_999_999, "alone and in batches: {}", found["batch_agreement"]);
}

#[test]
fn validate_exits_with_2_and_prints_the_worst_texts_if_the_model_fails() {
    let output = run("validate", Model::Small, &["--variant", "fp32", "--min-cosine", "1.0"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    let table = stdout(&output);
    assert!(table.contains("FAIL ("), "{table}");
    assert_eq!(table.lines().filter(|line| line.ends_with("FAIL")).count(), 10, "{table}");
}

#[test]
fn a_model_agrees_with_itself_on_the_texts_of_a_file() {
    let (_folder, folder) = temporary_folder();
    let texts = folder.join("texts.txt");
    fs::write(&texts, "one text\nanother text\n").expect("written");
    let texts = texts.to_str().expect("text");
    let output = run("validate", Model::Small, &["--against", "fp32", "--texts", texts, "--variant", "fp32", "--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let found = json(&output);
    assert_eq!(found["summary"]["texts"], 2);
    assert!(found["summary"]["min_cosine"].as_f64().is_some_and(|cosine| cosine > 0.999_999_9));

    let output = run("validate", Model::Small, &["--against", "fp32", "--texts", "/nowhere/at/all"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("/nowhere/at/all"), "{}", stderr(&output));
}

#[test]
fn a_damaged_reference_set_and_one_of_another_model_are_rejected() {
    let output = run("validate", Model::Small, &["--reference", Model::MiniLm.reference().to_str().expect("text")]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("32") && stderr(&output).contains("384"), "{}", stderr(&output));

    let (_folder, folder) = temporary_folder();
    let damaged = folder.join("damaged.safetensors");
    let whole = fs::read(Model::MiniLm.reference()).expect("a file");
    fs::write(&damaged, &whole[..whole.len() / 2]).expect("written");
    let output = run("validate", Model::Small, &["--reference", damaged.to_str().expect("text")]);
    assert_eq!(code(&output), 1);
    let error = stderr(&output);
    assert!(
        error.contains("damaged.safetensors is not a reference set") && error.contains("make_reference.py"),
        "{error}"
    );
}

#[test]
fn bench_times_every_model_of_the_bundle() {
    let flags = ["--lengths", "11", "--batches", "1,2", "--runs", "3", "--json"];
    let output = run("bench", Model::MiniLm, &flags);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let found = json(&output);
    let rows = found["latency"].as_array().expect("rows");
    let bundle = Bundle::open(Model::MiniLm.bundle()).expect("a bundle");
    let engines: Vec<&str> = bundle.manifest().models.keys().map(|engine| engine.name()).collect();
    assert_eq!(engines.len(), 3, "{engines:?}");
    for engine in engines {
        let own: Vec<&Value> = rows.iter().filter(|row| row["engine"] == engine).collect();
        assert_eq!(own.iter().map(|row| &row["batch"]).collect::<Vec<_>>(), [1, 2], "{engine}");
        for row in own {
            assert_eq!((&row["tokens"], &row["measured"]["runs"]), (&Value::from(11), &Value::from(3)));
            let (min, p95) = (row["min_ms"].as_f64(), row["p95_ms"].as_f64());
            assert!(min > Some(0.0) && min <= p95, "{row}");
        }
    }
    assert!(found["machine"]["cpus_available"].as_u64() > Some(0));

    let output = run("bench", Model::MiniLm, &["--lengths", "400", "--runs", "3"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("3 to 256"), "{}", stderr(&output));
}

#[test]
fn bench_compares_every_model_with_a_baseline_and_rejects_a_baseline_of_another_model() {
    // No machine is this slow: 15 minutes per text.
    let engines = r#""engines": {"pytorch": {"cos_min": 1.0, "L11": {"p50": 900000, "p95": 900001, "min": 899999}}}"#;
    let bench = |model: &str| {
        let flags = ["--lengths", "11", "--runs", "3", "--json", "--baseline", "-"];
        let mut command = on_bundle("bench", Model::Small, &flags);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        write!(stdin, r#"{{"model": "{model}", {engines}}}"#).expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("it ends")
    };
    let output = bench(Model::Small.name());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let found = json(&output);
    let rows = found["latency"].as_array().expect("rows");
    let (baseline, own): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(|row| row["engine"] == "pytorch");
    assert!(own.len() == 3 && own.iter().all(|row| row["speed_up"].as_f64() > Some(1.0)), "{found}");
    let [baseline] = baseline[..] else { panic!("one row of the baseline in {found}") };
    assert!(baseline["from"].as_str().is_some_and(|from| from == "standard input"));

    let output = bench("all-mpnet-base-v2");
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("cannot be compared"), "{}", stderr(&output));
}

#[test]
fn report_writes_three_files() {
    let (_folder, folder) = temporary_folder();
    let output = folder.join("report");
    let flags = ["--lengths", "11,32", "--runs", "3", "--output", output.to_str().expect("text")];
    let done = run("report", Model::Small, &flags);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    let read = |name: &str| fs::read_to_string(Path::new(&output).join(name)).expect(name);
    let report: Value = serde_json::from_str(&read("report.json")).expect("JSON");
    assert_eq!(report["schema"], 1);
    assert_eq!(report["variants"][0]["worst"].as_array().map(Vec::len), Some(10));
    let markdown = read("report.md");
    assert!(markdown.contains("Status: PASS") && markdown.contains(Model::Small.name()));
    let html = read("report.html");
    assert!(html.contains("<svg") && !html.contains("<script") && !html.contains("src="));
    assert_eq!(stdout(&done).lines().count(), 3);
}
