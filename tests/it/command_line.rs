//! Exit codes and error texts of the program.

use std::fs;
use std::path::Path;
use std::process::Output;

use embedd_model::bundle::FP32_FILE;

use crate::support::models::{Model, copy_of};
use crate::support::server::{command, fails_to_serve, temporary_folder};

fn run(args: &[&str]) -> Output {
    command().args(args).output().expect("the program runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_arguments_exit_with_64() {
    let no_server = "127.0.0.1:1";
    for arguments in [
        &["--no-such-flag"][..],
        &["bench", "--runs", "0"],
        &["bench", "--lengths", "11,x"],
        &["bench", "--lengths", "100000"],
        &["bench", "--baseline", "a", "--baseline-command", "b"],
        &["embed", "--dimensions", "none", "a text"],
        &["load", "--server", no_server, "--arrivals", "poisson"],
        &["load", "--server", no_server, "--bundle", "b"],
        &["load", "--server", no_server, "--cache", "--skip-cache"],
        &["load", "--server", no_server, "--concurrency", "0"],
        &["load", "--server", no_server, "--concurrency", "1", "--rate", "5"],
        &["load", "--server", no_server, "--duration", "10"],
        &["load", "--server", no_server, "--key", "k"],
        &["load", "--server", no_server, "--rate", "-5"],
        &["load", "--server", no_server, "--tokens", "9-8"],
        &["load", "--server", no_server, "--verify"],
        &["validate", "--against", "fp32"],
        &["validate", "--min-cosine", "1.1"],
        &["validate", "--min-cosine", "NaN"],
        &["validate", "--texts", "x"],
        &["validate", "--threads", "0"],
        &["validate", "--variant", "int2"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_wrong_configuration_exits_with_64_and_every_mistake_is_reported() {
    let output = run(&["serve", "--listen", "nowhere", "--max-tokens", "1000000", "--sessions", "-1"]);
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
fn an_address_in_use_is_reported_with_the_flag_that_changes_it() {
    let in_use = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = in_use.local_addr().expect("an address").to_string();
    let output = run(&["serve", "--listen", &address, "--admin-listen", "off"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&address) && stderr(&output).contains("--listen"), "{}", stderr(&output));
}

#[test]
fn a_bundle_with_a_damaged_file_is_not_served() {
    let (_folder, copy) = temporary_folder();
    copy_of(Model::Small, &copy, &[FP32_FILE]);
    let model = copy.join(FP32_FILE);
    let mut bytes = fs::read(&model).expect("the model");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&model, bytes).expect("write");
    let fp32 = |bundle: &Path| fails_to_serve(bundle, &["--engine", "fp32"]);
    let error = fp32(&copy);
    assert!(error.contains("model.onnx has changed since the conversion"), "{error}");

    fs::remove_file(&model).expect("remove");
    assert!(fp32(&copy).contains("model.onnx"));
    let error = fp32(&copy.join("nothing"));
    assert!(error.contains("is not a bundle"), "{error}");
}

#[test]
fn convert_writes_the_same_bundle_every_time_and_replaces_it_only_with_force() {
    let (_folder, folder) = temporary_folder();
    let source = Model::Small.source();
    let output = folder.join("bundle");
    let source = source.to_str().expect("text");
    let output = output.to_str().expect("text");
    let convert = |more: &[&str]| {
        run(&[&["convert", "--no-report", "--allow-inaccurate", "--model", source, "--output", output], more].concat())
    };
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
fn a_file_that_is_not_a_library_is_rejected() {
    let (_folder, folder) = temporary_folder();
    let library = folder.join("libonnxruntime.so");
    fs::write(&library, "not a library").expect("write");
    let bundle = Model::Small.bundle().to_str().expect("text");
    let library = library.to_str().expect("text");
    let output =
        run(&["--bundle", bundle, "--onnxruntime", library, "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot load ONNX Runtime from"), "{}", stderr(&output));
}
