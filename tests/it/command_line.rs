//! Exit codes and error texts of the program.

use std::fs;
use std::path::Path;
use std::process::Output;

use embedd_model::bundle::FP32_FILE;

use crate::support::models::{Model, copy_of};
use crate::support::server::{command, refused, temporary_folder};

fn run(args: &[&str]) -> Output {
    command().args(args).output().expect("the program runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_use_and_wrong_configuration_exit_with_64_and_tell_every_mistake() {
    assert_eq!(run(&["--no-such-flag"]).status.code(), Some(64));
    let output = run(&["serve", "--listen", "nowhere", "--max-tokens", "1000", "--sessions", "-1"]);
    assert_eq!(output.status.code(), Some(64));
    for mistake in ["--listen", "--max-tokens", "--sessions"] {
        assert!(stderr(&output).contains(mistake), "{}", stderr(&output));
    }
}

#[test]
fn help_and_version_exit_with_0() {
    let version = run(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), concat!("embedd ", env!("CARGO_PKG_VERSION")));
    assert!(String::from_utf8_lossy(&run(&["serve", "--help"]).stdout).contains("EMBEDD_MAX_TOKENS"));
}

#[test]
fn a_taken_address_is_told_with_the_flag_that_changes_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = run(&["serve", "--listen", &address, "--admin-listen", "off"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&address) && stderr(&output).contains("--listen"), "{}", stderr(&output));
}

#[test]
fn a_bundle_that_was_tampered_with_is_not_served() {
    let (_folder, copy) = temporary_folder();
    copy_of(Model::MiniLm, &copy, &[FP32_FILE]);
    let model = copy.join(FP32_FILE);
    let mut bytes = fs::read(&model).expect("the model");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&model, bytes).expect("write");
    let fp32 = |bundle: &Path| refused(bundle, &["--engine", "fp32"]);
    let told = fp32(&copy);
    assert!(told.contains("model.onnx is not the file"), "{told}");

    fs::remove_file(&model).expect("remove");
    assert!(fp32(&copy).contains("model.onnx"));
    let told = fp32(&copy.join("nothing"));
    assert!(told.contains("is no bundle"), "{told}");
}

#[test]
fn convert_writes_a_bundle_that_is_the_same_every_time_and_replaces_only_with_force() {
    let (_folder, folder) = temporary_folder();
    let (source, output) = (Model::MiniLm.source(), folder.join("bundle"));
    let (source, output) = (source.to_str().expect("text"), output.to_str().expect("text"));
    let convert =
        |more: &[&str]| run(&[&["convert", "--no-report", "--model", source, "--output", output], more].concat());
    let first = convert(&[]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    let manifest = || fs::read(folder.join("bundle/manifest.json")).expect("a manifest");
    let before = manifest();
    let second = convert(&[]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("--force"), "{}", stderr(&second));
    assert_eq!(convert(&["--force"]).status.code(), Some(0));
    assert_eq!(manifest(), before, "the same source gives the same bundle");
}

#[test]
fn a_library_that_is_none_is_refused() {
    let (_folder, folder) = temporary_folder();
    let library = folder.join("libonnxruntime.so");
    fs::write(&library, "no library").expect("write");
    let bundle = Model::MiniLm.bundle().to_str().expect("text");
    let library = library.to_str().expect("text");
    let output =
        run(&["--bundle", bundle, "--onnxruntime", library, "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("libonnxruntime.so cannot be loaded"), "{}", stderr(&output));
}
