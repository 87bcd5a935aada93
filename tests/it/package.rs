//! The tarball: unpacked by Python and run by a stock ONNX Runtime, as a detector does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use embedd_model::bundle::MANIFEST_FILE;
use serde_json::{Value, json};

use crate::support::http::post;
use crate::support::models::{Model, copy_of};
use crate::support::python;
use crate::support::reference::{MIN_BATCH_COSINE, Nearness};
use crate::support::server::{Server, command, serve, temporary_folder};

/// The number of texts of the reference set that the detector embeds.
const TEXTS: usize = 32;

/// A copy of the model's bundle with another minimum cosine in its manifest.
fn bundle_with_min_cosine(model: Model, folder: &Path, min_cosine: f64) -> PathBuf {
    let bundle = folder.join("bundle");
    copy_of(model, &bundle, &[MANIFEST_FILE]);
    let path = bundle.join(MANIFEST_FILE);
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).expect("the manifest")).expect("JSON");
    manifest["models"]["portable"]["accuracy"]["min_cosine"] = json!(min_cosine);
    fs::write(&path, manifest.to_string()).expect("write");
    bundle
}

fn package(args: &[&Path]) -> Output {
    command().arg("package").args(args).output().expect("the program runs")
}

fn succeed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_detector_computes_the_embeddings_of_pytorch_from_the_tarball_mpnet() {
    check(Model::Mpnet);
}

#[test]
fn a_detector_computes_the_embeddings_of_pytorch_from_the_tarball_minilm() {
    check(Model::MiniLm);
}

fn check(model: Model) {
    let (_folder, folder) = temporary_folder();
    let tarball = folder.join("v1.tar.gz");
    succeed(&package(&["--bundle".as_ref(), model.bundle(), "--output".as_ref(), &tarball]));
    let unpacked = unpack(&tarball, &folder).join(model.name());

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/package.py");
    let mut detector = Command::new(python::interpreter(python::DETECTOR));
    detector.arg(script).arg(&unpacked).arg(model.reference()).arg(TEXTS.to_string());
    let printed = succeed(&detector.output().expect("Python runs"));
    let report: Value = serde_json::from_str(&printed).expect("JSON");
    println!("{model:?}: {report:#}");

    assert_eq!(report["inputs"], json!({ "input_ids": "tensor(int64)", "attention_mask": "tensor(int64)" }));
    assert_eq!(report["embedding_type"], "float32");
    assert_eq!(report["embedding_shape"], json!([TEXTS, model.dimension()]));
    assert_eq!(report["longest"], json!({ "shape": [1, 512, model.dimension()], "finite": true }));
    let figure = |key: &str| report[key].as_f64().expect("a number");
    let min_cosine = Nearness::portable().min_cosine;
    assert!(figure("pytorch_alone") >= min_cosine && figure("pytorch_batched") >= min_cosine, "{report:#}");
    assert!(figure("alone_batched") >= MIN_BATCH_COSINE, "{report:#}");
    assert!(figure("hand_model") >= 0.999_999 && figure("norm_error") <= 1e-5, "{report:#}");
}

#[test]
fn an_unpacked_tarball_is_a_bundle_that_can_be_served() {
    let (_folder, folder) = temporary_folder();
    let tarball = folder.join("v1.tar.gz");
    succeed(&package(&["--bundle".as_ref(), Model::Small.bundle(), "--output".as_ref(), &tarball]));
    let bundle = unpack(&tarball, &folder).join(Model::Small.name());
    let server = Server::spawn(&mut serve(&bundle, &["--engine", "portable"]));
    server.wait_for_line("ready");
    let answer = post(server.http(), "/embed", &[("content-type", "application/json")], r#"{"inputs": "a"}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Unpacks with Python's module, as a detector's build would, and checks the checksums with `sha256sum`.
fn unpack(tarball: &Path, folder: &Path) -> PathBuf {
    let script = "import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter='data')";
    let mut unpack = Command::new(python::interpreter(python::DETECTOR));
    succeed(&unpack.args(["-c", script]).arg(tarball).arg(folder).output().expect("Python runs"));
    let root = folder.join("onnx_models");
    let model = fs::read_dir(&root).expect("a folder").next().expect("a model").expect("an entry").path();
    let sums = Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(model).output();
    succeed(&sums.expect("sha256sum runs"));
    root
}

#[test]
fn package_packs_verifies_replaces_only_with_force_and_exits_with_2_when_the_gate_fails() {
    let (_folder, folder) = temporary_folder();
    let bundle = bundle_with_min_cosine(Model::Small, &folder, 0.995);
    let in_folder =
        |args: &[&str]| command().arg("package").args(args).current_dir(&folder).output().expect("the program runs");
    let printed = succeed(&in_folder(&["--bundle", "bundle"]));
    assert!(printed.contains("raxe_onnx_model_v1.tar.gz") && printed.contains("onnx_models/bert-mean"), "{printed}");
    let verified = succeed(&in_folder(&["--verify", "raxe_onnx_model_v1.tar.gz"]));
    assert_eq!(verified.lines().skip(1).collect::<Vec<_>>(), printed.lines().skip(1).collect::<Vec<_>>());

    let first = fs::read(folder.join("raxe_onnx_model_v1.tar.gz")).expect("the tarball");
    let again = in_folder(&["--bundle", "bundle"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
    succeed(&in_folder(&["--bundle", "bundle", "--force"]));
    assert!(first == fs::read(folder.join("raxe_onnx_model_v1.tar.gz")).expect("the tarball"), "the same bytes");

    fs::write(folder.join("cut.tar.gz"), &first[..first.len() - 1]).expect("write");
    let cut = in_folder(&["--verify", "cut.tar.gz"]);
    assert_eq!(cut.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&cut.stderr).contains("cut.tar.gz is invalid"));

    fs::remove_dir_all(bundle).expect("remove");
    bundle_with_min_cosine(Model::Small, &folder, 0.94);
    let rejected = in_folder(&["--bundle", "bundle", "--name", "v2"]);
    assert_eq!(rejected.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&rejected.stderr).contains("0.940000"));
    assert!(!folder.join("v2.tar.gz").exists());
}
