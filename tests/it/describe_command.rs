//! `embedd convert --describe` of local folders.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::server::{command, temporary_folder};

/// Describes a folder on a machine that has neither ONNX Runtime nor Python.
fn describe(model: &Path, args: &[&str]) -> Output {
    let (_folder, home) = temporary_folder();
    let mut describe = command();
    describe.args(["convert", "--describe", "--model"]).arg(model).args(args);
    let output = describe.env("EMBEDD_HOME", home.join("none")).env("EMBEDD_PYTHON", "none").output();
    assert!(!home.join("none").exists(), "nothing is written");
    output.expect("the program runs")
}

fn model(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(name)
}

#[test]
fn a_description_is_text_or_json() {
    let folder = model("gemma3-text");
    let output = describe(&folder, &[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "gemma3-text\n\n",
        &format!("  source        {}\n", folder.display()),
        "  architecture  gemma3_text: 4 layers, hidden size 32\n",
        "  modules       Dense in 2_Dense: 32 -> 48, no bias\n                Dense in 3_Dense: 48 -> 32, no bias\n",
        "query: \"task: search result | query: \"\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }

    let output = describe(&folder, &["--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&found["name"], &found["pooling"]), (&json!("gemma3-text"), &json!("mean")));
    assert_eq!(found["source"], json!({ "folder": folder }));
    assert_eq!(found["encoder"]["norms"]["epsilon"].to_string(), "1e-6");
    assert_eq!(found["encoder"]["attention"]["heads"], json!({ "query": 4, "key": 2, "size": 16 }));
    assert_eq!(found["prompts"]["document"], "title: none | text: ");
}

#[test]
fn a_folder_that_cannot_be_converted_is_not_described() {
    let output = describe(&model("none"), &["--json"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty() && error.contains("it does not exist"), "{error}");
}
