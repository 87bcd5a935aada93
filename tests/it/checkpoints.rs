//! Model folders as the libraries save them, converted and served by the real program. The embeddings must match
//! PyTorch's.
//!
//! The models are in `tests/fixtures/models`.

use std::path::{Path, PathBuf};

use embedd_model::accuracy::cosine;
use embedd_model::reference::{ReferenceSet, ReferenceText};
use embedd_proto::Embedding;

use crate::support::models::fetcher;
use crate::support::server::{Server, command, embed, temporary_folder};

/// In float32, only the order of additions differs from PyTorch.
const MIN_COSINE: f64 = 0.99999;

#[tokio::test]
async fn bert_saved_by_sentence_transformers_6_has_the_embeddings_of_pytorch() {
    check("bert-mean").await;
}

#[tokio::test]
async fn mpnet_saved_by_sentence_transformers_6_has_the_embeddings_of_pytorch() {
    check("mpnet").await;
}

#[tokio::test]
async fn texts_are_truncated_to_the_limit_in_tokenizer_config_json() {
    check("bert-limit-in-tokenizer").await;
}

/// Embeds every reference text alone and in one batch with all others.
async fn check(model: &str) {
    let (_folder, folder) = temporary_folder();
    let bundle = folder.join("bundle");
    convert(model, &bundle);
    let server = serve(&bundle);
    let mut client = server.client().await;
    let reference = ReferenceSet::read(&models().join(format!("{model}.expected.safetensors"))).expect("the reference");
    let texts: Vec<&str> = reference.texts.iter().map(|text| text.text.as_str()).collect();
    let batch = embed(&mut client, &texts).await.embeddings;
    assert_eq!(batch.len(), 24);
    for (text, in_batch) in reference.texts.iter().zip(&batch) {
        let alone = embed(&mut client, &[&text.text]).await.embeddings.remove(0);
        assert_is_pytorch(&alone, text, "alone");
        assert_is_pytorch(in_batch, text, "in a batch");
    }
    assert!(batch.iter().any(|embedding| embedding.truncated), "a text is longer than the limit");
}

#[track_caller]
fn assert_is_pytorch(found: &Embedding, expected: &ReferenceText, how: &str) {
    assert_eq!(found.token_count, expected.token_count, "{} {how}", expected.id);
    let cosine = cosine(&found.values, &expected.embedding);
    assert!(cosine >= MIN_COSINE, "{} {how}: {cosine}", expected.id);
}

fn convert(model: &str, bundle: &Path) {
    let mut convert = command();
    convert.args(["convert", "--precision", "fp32", "--no-report", "--model"]).arg(models().join(model));
    let output = convert.arg("--output").arg(bundle).output().expect("the program runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
}

fn serve(bundle: &Path) -> Server {
    let mut serve = command();
    serve.args(["serve", "--engine", "fp32", "--cache-bytes", "0", "--bundle"]).arg(bundle);
    let server = Server::spawn(serve.arg("--onnxruntime").arg(fetcher().runtime().expect("ONNX Runtime").path));
    server.wait_for_line("ready");
    server
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models")
}
