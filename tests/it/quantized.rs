//! The INT8 model: converted, gated, served.

use std::fs;
use std::process::Output;

use embedd::prepare::Preparation;
use embedd_common::progress::Progress;
use embedd_fetch::home::Home;
use embedd_fetch::model_ref::ModelRef;
use embedd_model::accuracy::cosine;
use embedd_model::bundle::{Bundle, BundleError, MANIFEST_FILE, Variant};
use embedd_proto::GetModelRequest;

use crate::support::models::{Model, fetcher, runtime};
use crate::support::reference::{self, LEAST, LEAST_AGREEMENT, LEAST_MEAN};
use crate::support::server::{Server, command, refused, temporary_folder};

#[tokio::test]
async fn the_int8_model_is_near_pytorch_over_grpc_alone_and_in_batches_mpnet() {
    check(Model::Mpnet).await;
}

#[tokio::test]
async fn the_int8_model_is_near_pytorch_over_grpc_alone_and_in_batches_minilm() {
    check(Model::MiniLm).await;
}

async fn check(model: Model) {
    let server = Server::start(model, &["--engine", "portable"]);
    let told = server.client().await.get_model(GetModelRequest {}).await.expect("the model").into_inner();
    assert_eq!((told.engine.as_str(), told.quantization.as_str()), ("portable", "int8-per-token"));
    let accuracy = told.accuracy.expect("it was measured");
    assert!(accuracy.min_cosine >= LEAST && accuracy.mean_cosine >= LEAST_MEAN, "{accuracy:?}");
    reference::near_pytorch(&server, model, |alone, together| cosine(alone, together) >= LEAST_AGREEMENT).await;
}

fn convert(arguments: &[&str]) -> Output {
    let mut convert = command();
    convert.args(["convert", "--no-report", "--model", Model::MiniLm.id()]).args(arguments);
    convert.output().expect("the program runs")
}

#[test]
fn the_stock_recipe_is_refused_and_served_only_by_those_who_insist() {
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    let path = bundle.to_str().expect("text");
    let arguments = ["--recipe", "dynamic-per-tensor", "--output", path];
    let converted = convert(&arguments);
    let told = String::from_utf8_lossy(&converted.stderr).into_owned();
    assert_eq!(converted.status.code(), Some(2), "{told}");
    assert!(told.contains("edge-") && told.contains("--allow-inaccurate"), "the worst texts, what to do: {told}");
    assert!(!bundle.exists());

    assert_eq!(convert(&[&arguments[..], &["--allow-inaccurate"]].concat()).status.code(), Some(0));
    let told = refused(&bundle, &["--engine", "portable"]);
    assert!(told.contains("failed the accuracy gate"), "{told}");
    let mut insists = command();
    insists.args(["--bundle", path, "--engine", "portable", "--allow-inaccurate", "--onnxruntime"]);
    Server::spawn(insists.arg(fetcher().runtime().expect("ONNX Runtime"))).wait_for_line("ready");
}

#[test]
fn half_precision_is_half_the_file_and_as_near_as_float32() {
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    let converted = convert(&["--precision", "fp16", "--output", bundle.to_str().expect("text")]);
    assert_eq!(converted.status.code(), Some(0), "{}", String::from_utf8_lossy(&converted.stderr));
    let length = |file: &str| std::fs::metadata(bundle.join(file)).expect("a file").len();
    assert!(length("model_quantized.onnx") < length("model.onnx") * 51 / 100);
}

#[test]
fn a_bundle_of_an_older_format_in_the_cache_folder_is_made_anew() {
    let (_folder, folder) = temporary_folder();
    let home = Home::at(&folder);
    let model = ModelRef::Folder(Model::MiniLm.source());
    let place = home.bundle_dir(&model);
    fs::create_dir_all(&place).expect("a folder");
    fs::write(place.join(MANIFEST_FILE), r#"{ "format": 1, "models": {} }"#).expect("write");
    assert!(matches!(Bundle::open(&place), Err(BundleError::Format { found: 1, .. })));
    let preparation = Preparation { home, fetcher: fetcher(), progress: Progress::plain() };
    let bundle = preparation.bundle_of(&model, &runtime()).expect("a new one");
    for variant in [Variant::Portable, Variant::Native] {
        let model = bundle.model(variant).expect("it has this model");
        assert!(model.accuracy.expect("it was measured").passed());
        model.files().for_each(|file| drop(bundle.verify(file).expect("whole")));
    }
}

#[test]
fn the_int8_model_of_mpnet_is_small_enough_for_its_users() {
    let length = std::fs::metadata(Model::Mpnet.bundle().join("model_quantized.onnx")).expect("the model").len();
    assert!(length <= 116 << 20, "{length} bytes");
}

#[test]
fn a_bundle_has_its_report() {
    for file in ["report.md", "report.json", "report.html"] {
        let text = std::fs::read_to_string(Model::MiniLm.bundle().join(file)).expect("a report");
        assert!(text.contains("dynamic-per-tensor"), "the refused recipe's figures are in {file}");
    }
}
