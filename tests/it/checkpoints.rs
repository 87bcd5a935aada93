//! Model folders as the libraries save them, converted and served by the real program. The embeddings must match
//! PyTorch's.
//!
//! The models are in `tests/fixtures/models`.

use std::path::{Path, PathBuf};

use embedd_fetch::RuntimeBuild;
use embedd_model::accuracy::cosine;
use embedd_model::bundle::{Bundle, REFERENCE_FILE, ReferenceKind, Variant};
use embedd_model::reference::{ReferenceSet, ReferenceText};
use embedd_proto::Embedding;

use crate::support::models::fetcher;
use crate::support::server::{Server, command, embed, temporary_folder};

/// In float32, only the order of additions differs from PyTorch.
const MIN_COSINE: f64 = 0.99999;

/// The largest loss of cosine that INT8 may cause. The weights are random, which is harder to quantize than real ones.
const MIN_INT8_COSINE: f64 = 0.99;

/// The largest loss of cosine that float16 may cause, whose significands have 11 bits.
const MIN_FP16_COSINE: f64 = 0.9999;

const ARCHITECTURES: [&str; 14] = [
    "bert-mean",
    "mpnet",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "electra",
    "deberta-v2",
    "nomic-bert",
    "gte",
    "jina-embeddings-v3",
    "modernbert",
    "gemma3-text",
    "qwen3",
];

#[tokio::test]
async fn every_architecture_has_the_embeddings_of_pytorch_in_float32() {
    for model in ARCHITECTURES {
        check(model).await;
    }
}

#[tokio::test]
async fn every_architecture_has_the_same_bits_in_every_batch_of_the_native_model() {
    for model in ARCHITECTURES {
        check_native(model).await;
    }
}

/// The engine for GPUs, on the CPU, where ONNX Runtime emulates float16.
#[tokio::test]
async fn every_architecture_has_the_embeddings_of_pytorch_in_float16() {
    for model in ARCHITECTURES {
        check_fp16(model).await;
    }
}

#[tokio::test]
async fn texts_are_truncated_to_the_limit_in_tokenizer_config_json() {
    check("bert-limit-in-tokenizer").await;
}

#[tokio::test]
async fn every_layout_of_a_folder_is_converted() {
    for layout in ["bert-bin", "bert-0-transformer", "bert-plain", "bert-vocab-txt", "xlm-roberta-spm"] {
        check(layout).await;
    }
}

#[tokio::test]
async fn activations_and_pooling_modes_are_those_of_pytorch() {
    let pooling = ["pooling-list", "pooling-max", "pooling-weightedmean", "pooling-lasttoken"];
    for model in ["bert-gelu-tanh", "bert-relu"].into_iter().chain(pooling) {
        check(model).await;
        check_native(model).await;
    }
}

#[tokio::test]
async fn modules_after_the_pooling_are_those_of_pytorch() {
    for model in ["bert-dense-bin", "bert-layer-norm", "bert-truncate-dim"] {
        check(model).await;
        check_native(model).await;
    }
}

#[tokio::test]
async fn the_tokens_of_an_excluded_prompt_are_not_pooled() {
    check("bert-prompt-excluded").await;
    check_native("bert-prompt-excluded").await;
}

/// Converts a model to INT8 and compares the native model with PyTorch, alone and in a batch.
async fn check_native(model: &str) {
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    // The portable model of random weights need not pass the gate.
    let reference = models().join(format!("{model}.expected.safetensors"));
    convert(model, &bundle, &["--allow-inaccurate", "--reference", reference.to_str().expect("text")]);
    let accuracy = Bundle::open(&bundle).expect("a bundle").manifest().models[&Variant::Native].accuracy;
    let accuracy = accuracy.expect("it was measured");
    assert_eq!((accuracy.reference, accuracy.texts), (ReferenceKind::PyTorch, 24));
    assert!(accuracy.min_cosine >= MIN_INT8_COSINE, "{model}: {accuracy:?}");

    let server = serve(&bundle, &["--engine", "native"]);
    let mut client = server.client().await;
    let reference = ReferenceSet::read(&reference).expect("the reference");
    let texts: Vec<&str> = reference.texts.iter().map(|text| text.text.as_str()).collect();
    let batch = embed(&mut client, &texts).await.embeddings;
    for (text, in_batch) in reference.texts.iter().zip(&batch) {
        let alone = embed(&mut client, &[&text.text]).await.embeddings.remove(0);
        let bits = |embedding: &Embedding| embedding.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&alone), bits(in_batch), "{model}: {}", text.id);
        let cosine = cosine(&alone.values, &text.embedding);
        assert!(cosine >= MIN_INT8_COSINE, "{model}: {}: {cosine}", text.id);
    }
}

/// Converts a model for GPUs and compares its float16 model with PyTorch, in a batch of texts of different lengths.
async fn check_fp16(model: &str) {
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    let reference = models().join(format!("{model}.expected.safetensors"));
    convert(model, &bundle, &["--device", "cuda", "--reference", reference.to_str().expect("text")]);
    let manifest = Bundle::open(&bundle).expect("a bundle").manifest().clone();
    assert_eq!(manifest.models.keys().copied().collect::<Vec<_>>(), [Variant::Fp32, Variant::Fp16], "{model}");
    let accuracy = manifest.models[&Variant::Fp16].accuracy.expect("it was measured");
    assert!(accuracy.min_cosine >= MIN_FP16_COSINE, "{model}: {accuracy:?}");

    let server = serve(&bundle, &["--engine", "fp16"]);
    let mut client = server.client().await;
    let reference = ReferenceSet::read(&reference).expect("the reference");
    let texts: Vec<&str> = reference.texts.iter().map(|text| text.text.as_str()).collect();
    for (text, embedding) in reference.texts.iter().zip(embed(&mut client, &texts).await.embeddings) {
        let cosine = cosine(&embedding.values, &text.embedding);
        assert!(cosine >= MIN_FP16_COSINE, "{model}: {}: {cosine}", text.id);
    }
}

#[test]
fn a_model_without_a_reference_set_is_compared_with_its_own_float32() {
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    let manifest = |further: &[&str]| {
        convert("roberta", &bundle, &[&["--force"], further].concat());
        Bundle::open(&bundle).expect("a bundle").manifest().clone()
    };
    let all = manifest(&["--allow-inaccurate"]);
    assert_eq!(all.models[&Variant::Fp32].accuracy, None);
    let [portable, native] = [Variant::Portable, Variant::Native].map(|variant| {
        let accuracy = all.models[&variant].accuracy.expect("it was measured");
        assert_eq!((accuracy.reference, accuracy.texts), (ReferenceKind::Float32, 253), "{variant}");
        accuracy.min_cosine
    });
    // Random weights are hard to quantize; how hard for the portable model depends on the CPU.
    assert!(portable < native, "{portable} {native}");
    let between = ((portable + native) / 2.0).to_string();
    let accurate = manifest(&["--min-cosine", &between]);
    assert!(!accurate.models.contains_key(&Variant::Portable), "{portable} is below {between}");
    assert!(accurate.models[&Variant::Native].accuracy.expect("it was measured").passed());
    let reference = ReferenceSet::read(&bundle.join(REFERENCE_FILE)).expect("a reference set");
    assert_eq!((reference.kind(), reference.texts.len()), (ReferenceKind::Float32, 253));
}

/// Embeds every reference text alone and in one batch with all others.
async fn check(model: &str) {
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    convert(model, &bundle, &["--precision", "fp32"]);
    let server = serve(&bundle, &["--engine", "fp32"]);
    let mut client = server.client().await;
    let reference = ReferenceSet::read(&models().join(format!("{model}.expected.safetensors"))).expect("the reference");
    let texts: Vec<&str> = reference.texts.iter().map(|text| text.text.as_str()).collect();
    let batch = embed(&mut client, &texts).await.embeddings;
    assert_eq!(batch.len(), 24);
    for (text, in_batch) in reference.texts.iter().zip(&batch) {
        let alone = embed(&mut client, &[&text.text]).await.embeddings.remove(0);
        assert_is_pytorch(&alone, text, &format!("of {model}, alone"));
        assert_is_pytorch(in_batch, text, &format!("of {model}, in a batch"));
    }
    assert!(batch.iter().any(|embedding| embedding.truncated), "a text is longer than the limit");
}

#[track_caller]
fn assert_is_pytorch(found: &Embedding, expected: &ReferenceText, how: &str) {
    assert_eq!(found.token_count, expected.token_count, "{} {how}", expected.id);
    let cosine = cosine(&found.values, &expected.embedding);
    assert!(cosine >= MIN_COSINE, "{} {how}: {cosine}", expected.id);
}

fn convert(model: &str, bundle: &Path, further: &[&str]) {
    let mut convert = command();
    convert.args(["convert", "--no-report", "--model"]).arg(models().join(model)).arg("--output").arg(bundle);
    let output = convert.args(further).output().expect("the program runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{model}: {stderr}");
}

fn serve(bundle: &Path, further: &[&str]) -> Server {
    let mut serve = command();
    serve.args(["serve", "--cache-bytes", "0", "--bundle"]).arg(bundle).args(further);
    let server =
        Server::spawn(serve.arg("--onnxruntime").arg(fetcher().runtime(RuntimeBuild::Cpu).expect("ONNX Runtime").path));
    server.wait_for_line("ready");
    server
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models")
}
