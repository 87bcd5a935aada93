//! The embeddings of PyTorch: by float32 over gRPC, and by every model that a whole conversion measures.

use std::fs;

use embedd_model::accuracy::cosine;
use serde_json::Value;

use crate::support::models::Model;
use crate::support::reference::{Nearness, assert_near_pytorch};
use crate::support::server::{command, shared, temporary_folder};

#[tokio::test]
async fn texts_alone_and_in_batches_have_the_embeddings_of_pytorch_mpnet() {
    check(Model::Mpnet).await;
}

#[tokio::test]
async fn texts_alone_and_in_batches_have_the_embeddings_of_pytorch_minilm() {
    check(Model::MiniLm).await;
}

async fn check(model: Model) {
    let agree = |alone: &[f32], together: &[f32]| cosine(alone, together) >= Nearness::FLOAT32.min_cosine;
    assert_near_pytorch(shared(model), model, Nearness::FLOAT32, agree).await;
}

#[test]
#[ignore = "it takes minutes; run it with .ci/accuracy"]
fn the_conversion_of_mpnet_compares_all_texts_and_reports_the_figures() {
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    let mut convert = command();
    convert.args(["convert", "--model", Model::Mpnet.id(), "--output"]).arg(&bundle);
    assert!(convert.status().expect("the program runs").success(), "every text passes the accuracy gate");

    let report = fs::read_to_string(bundle.join("report.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    println!("{}", fs::read_to_string(bundle.join("report.md")).expect("a report"));
    let number = |of: &Value| of.as_f64().expect("a number");
    for (engine, nearness) in
        [("fp32", Nearness::FLOAT32), ("portable", Nearness::portable()), ("native", Nearness::INT8)]
    {
        let variants = report["variants"].as_array().expect("variants");
        let variant = variants.iter().find(|variant| variant["variant"] == engine).expect("a variant");
        let accuracy = &variant["accuracy"]["summary"];
        assert_eq!(accuracy["texts"], 253, "{engine}");
        assert!(nearness.holds(number(&accuracy["min_cosine"]), number(&accuracy["mean_cosine"])), "{variant}");
    }
    // The reason for the recipe of the portable model.
    let recipes = report["recipes"].as_array().expect("recipes");
    let stock = recipes.iter().find(|recipe| recipe["recipe"] == "dynamic-per-tensor").expect("the stock recipe");
    assert_eq!((&stock["accepted"], &stock["accuracy"]["passed"]), (&false.into(), &false.into()), "{stock}");
}
