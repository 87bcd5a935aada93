//! Models in the cache of the Hugging Face hub, in which every file is a link to a blob.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use embedd_common::checksum::Sha256Hex;
use embedd_fetch::RuntimeBuild;
use embedd_model::bundle::{Bundle, ReferenceKind, Variant};

use crate::support::models::fetcher;
use crate::support::server::{command, temporary_folder};

const COMMIT: &str = "563453de56997967de9625d6ed47b736000024e3";

/// Adds the model `tiny/bert-mean` to a cache as huggingface_hub writes it, and returns its snapshot.
fn snapshot(cache: &Path) -> PathBuf {
    let repository = cache.join("models--tiny--bert-mean");
    let snapshot = repository.join("snapshots").join(COMMIT);
    fs::create_dir_all(repository.join("blobs")).expect("a folder");
    fs::create_dir_all(repository.join("refs")).expect("a folder");
    fs::write(repository.join("refs/main"), COMMIT).expect("a file");
    link(&models().join("bert-mean"), &snapshot, "../..", &repository.join("blobs"));
    snapshot
}

/// Moves the contents of files to `blobs`, which is `up` from the links in `to`.
fn link(from: &Path, to: &Path, up: &str, blobs: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            link(&path, &to, &format!("../{up}"), blobs);
            continue;
        }
        let blob = Sha256Hex::of_file(&path).expect("a file").to_string();
        fs::copy(&path, blobs.join(&blob)).expect("a file");
        symlink(format!("{up}/blobs/{blob}"), &to).expect("a link");
    }
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models")
}

#[test]
fn a_snapshot_is_converted_and_named_by_its_model() {
    let (_folder, folder) = temporary_folder();
    let snapshot = snapshot(&folder.join("hub"));
    let mut convert = command();
    convert.args(["convert", "--no-report", "--precision", "fp32", "--model"]).arg(&snapshot);
    convert.arg("--reference").arg(models().join("bert-mean.expected.safetensors"));
    convert.env("EMBEDD_ONNXRUNTIME", fetcher().runtime(RuntimeBuild::Cpu).expect("ONNX Runtime").path);
    let output = convert.env("EMBEDD_HOME", folder.join("home")).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let bundle = Path::new(stdout.trim_end().strip_prefix("bundle  ").expect("the bundle's path"));
    let name = bundle.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(name.starts_with("folder--tiny--bert-mean--"), "{name}");
    let bundle = Bundle::open(bundle).expect("a bundle");
    assert_eq!(bundle.manifest().name, "tiny/bert-mean");
    let accuracy = bundle.manifest().models[&Variant::Fp32].accuracy.expect("it was measured");
    assert_eq!(accuracy.reference, ReferenceKind::PyTorch);
    assert!(accuracy.min_cosine >= 0.99999, "{accuracy:?}");
    for entry in fs::read_dir(bundle.folder()).expect("a folder") {
        assert!(entry.expect("an entry").file_type().expect("a type").is_file(), "a copy, not a link");
    }
}

#[test]
fn a_snapshot_is_described_and_its_missing_blobs_are_reported() {
    let (_folder, folder) = temporary_folder();
    let snapshot = snapshot(&folder.join("hub"));
    let describe = || {
        let mut describe = command();
        describe.args(["convert", "--describe", "--model"]).arg(&snapshot).env("EMBEDD_HOME", folder.join("home"));
        describe.output().expect("the program runs")
    };
    let output = describe();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("tiny/bert-mean\n"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(COMMIT), "{text}");

    let blob = fs::canonicalize(snapshot.join("1_Pooling/config.json")).expect("a blob");
    fs::remove_file(blob).expect("a removal");
    let output = describe();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("is missing 1_Pooling/config.json"), "{error}");
}
