//! The portable INT8 model: converted, gated, served.

use std::fs;
use std::process::Output;

use embedd::prepare::Preparation;
use embedd_common::progress::Progress;
use embedd_fetch::home::Home;
use embedd_fetch::model_ref::ModelRef;
use embedd_model::accuracy::cosine;
use embedd_model::bundle::{Bundle, BundleError, FP32_FILE, MANIFEST_FILE, PORTABLE_FILE, Variant};
use embedd_model::engine::Device;
use embedd_proto::GetModelRequest;
use serde_json::Value;

use crate::support::models::{Model, fetcher, runtime};
use crate::support::reference::{MIN_BATCH_COSINE, Nearness, assert_near_pytorch};
use crate::support::server::{Server, command, fails_to_serve, serve, temporary_folder};

#[tokio::test]
async fn the_portable_model_is_close_to_pytorch_alone_and_in_batches_mpnet() {
    check(Model::Mpnet).await;
}

#[tokio::test]
async fn the_portable_model_is_close_to_pytorch_alone_and_in_batches_minilm() {
    check(Model::MiniLm).await;
}

async fn check(model: Model) {
    let server = Server::start(model, &["--engine", "portable"]);
    let served = server.client().await.get_model(GetModelRequest {}).await.expect("the model").into_inner();
    assert_eq!((served.engine.as_str(), served.quantization.as_str()), ("portable", "int8-per-token"));
    let agree = |alone: &[f32], together: &[f32]| cosine(alone, together) >= MIN_BATCH_COSINE;
    assert_near_pytorch(&server, model, Nearness::portable(), agree).await;
}

fn convert(arguments: &[&str]) -> Output {
    let mut convert = command();
    convert.args(["convert", "--model"]).arg(Model::Small.source()).arg("--reference").arg(Model::Small.reference());
    convert.args(arguments).output().expect("the program runs")
}

#[test]
fn an_inaccurate_model_is_written_and_served_only_with_allow_inaccurate() {
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    let path = bundle.to_str().expect("text");
    // With a single scale per tensor, no model is that accurate.
    let arguments = ["--recipe", "dynamic-per-tensor", "--min-cosine", "0.99999", "--output", path];
    let converted = convert(&arguments);
    let error = String::from_utf8_lossy(&converted.stderr).into_owned();
    assert_eq!(converted.status.code(), Some(2), "{error}");
    assert!(
        error.contains("mixed-") && error.contains("--allow-inaccurate"),
        "the worst texts, and what to do: {error}"
    );
    assert!(!bundle.exists());

    assert_eq!(convert(&[&arguments[..], &["--allow-inaccurate"]].concat()).status.code(), Some(0));
    let error = fails_to_serve(&bundle, &["--engine", "portable"]);
    assert!(error.contains("failed the accuracy gate"), "{error}");
    Server::spawn(&mut serve(&bundle, &["--engine", "portable", "--allow-inaccurate"])).wait_for_line("ready");
}

#[test]
fn the_report_has_the_figures_of_the_stock_recipe() {
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    let output = bundle.to_str().expect("text");
    let converted = convert(&["--min-cosine", "0.9999", "--allow-inaccurate", "--output", output]);
    assert_eq!(converted.status.code(), Some(0), "{}", String::from_utf8_lossy(&converted.stderr));
    let read = |file: &str| fs::read_to_string(bundle.join(file)).expect("a report");
    for file in ["report.md", "report.html"] {
        assert!(read(file).contains("dynamic-per-tensor"), "{file}");
    }
    let report: Value = serde_json::from_str(&read("report.json")).expect("JSON");
    let recipes = report["recipes"].as_array().expect("recipes");
    let stock = recipes.iter().find(|recipe| recipe["recipe"] == "dynamic-per-tensor").expect("the stock recipe");
    assert_eq!((&stock["accepted"], &stock["accuracy"]["passed"]), (&false.into(), &false.into()), "{stock}");
}

#[test]
fn half_precision_halves_the_weights_and_keeps_the_vectors() {
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    let output = bundle.to_str().expect("text");
    let converted = convert(&["--no-report", "--precision", "fp16", "--min-cosine", "0.9999", "--output", output]);
    assert_eq!(converted.status.code(), Some(0), "{}", String::from_utf8_lossy(&converted.stderr));
    let length = |file: &str| fs::metadata(bundle.join(file)).expect("a file").len();
    let weights = fs::metadata(Model::Small.source().join("model.safetensors")).expect("a file").len();
    let saved = length(FP32_FILE) - length(PORTABLE_FILE);
    assert!(saved > weights * 40 / 100 && saved < weights * 55 / 100, "{saved} of {weights} bytes");
}

#[test]
fn a_bundle_of_an_older_format_in_the_cache_folder_is_converted_again() {
    let (_folder, folder) = temporary_folder();
    let home = Home::at(&folder);
    let model = ModelRef::Folder(Model::Small.source());
    let place = home.bundles_dir().join(model.as_file_name());
    fs::create_dir_all(&place).expect("a folder");
    fs::write(place.join(MANIFEST_FILE), r#"{ "format": 1, "models": {} }"#).expect("write");
    assert!(matches!(Bundle::open(&place), Err(BundleError::Format { found: 1, .. })));
    let preparation = Preparation { home, fetcher: fetcher(), progress: Progress::plain(), device: Device::Cpu };
    let bundle = preparation.bundle_of(&model, &runtime()).expect("a new one");
    for variant in [Variant::Fp32, Variant::Native] {
        let model = bundle.model(variant).expect("it has this model");
        model.files().for_each(|file| drop(bundle.verify(file).expect("an intact file")));
    }
}

#[test]
fn the_portable_model_of_mpnet_has_at_most_116_mib() {
    let length = fs::metadata(Model::Mpnet.bundle().join(PORTABLE_FILE)).expect("the model").len();
    assert!(length <= 116 << 20, "{length} bytes");
}
