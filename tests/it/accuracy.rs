//! The float32 model, served over gRPC, returns the embeddings of PyTorch.

use embedd_model::accuracy::cosine;
use embedd_model::reference::ReferenceText;
use embedd_proto::GetModelRequest;

use crate::support::models::Model;
use crate::support::reference;
use crate::support::server::{embed, shared};

/// The minimum cosine of the float32 model to PyTorch.
const MIN_COSINE: f64 = 0.99999;

#[tokio::test]
async fn texts_alone_have_the_embeddings_of_pytorch_mpnet() {
    check(Model::Mpnet, 1).await;
}

#[tokio::test]
async fn texts_alone_have_the_embeddings_of_pytorch_minilm() {
    check(Model::MiniLm, 1).await;
}

#[tokio::test]
async fn texts_in_batches_have_the_embeddings_of_pytorch_mpnet() {
    check(Model::Mpnet, 100).await;
}

#[tokio::test]
async fn texts_in_batches_have_the_embeddings_of_pytorch_minilm() {
    check(Model::MiniLm, 100).await;
}

async fn check(model: Model, texts_per_request: usize) {
    let server = shared(model);
    let mut client = server.client().await;
    let converted = client.get_model(GetModelRequest {}).await.expect("the model").into_inner().accuracy;
    let converted = converted.expect("it was measured");
    assert!(converted.texts == 253 && converted.min_cosine >= MIN_COSINE, "{converted:?}");
    let mut min_cosine = f64::INFINITY;
    for texts in reference::to_serve(model).chunks(texts_per_request) {
        let request: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
        let response = embed(&mut client, &request).await;
        assert_eq!(response.embeddings.len(), texts.len());
        assert_eq!(response.model, model.id());
        for (text, embedding) in texts.iter().zip(&response.embeddings) {
            let ReferenceText { id, embedding: expected, token_count, .. } = text;
            assert_eq!(embedding.token_count, *token_count, "tokens of {id}");
            let cosine = cosine(&embedding.values, expected);
            assert!(cosine >= MIN_COSINE, "{id}: cosine {cosine}");
            min_cosine = min_cosine.min(cosine);
        }
    }
    println!("{model:?}, {texts_per_request} texts per request: minimum cosine to PyTorch {min_cosine:.9}");
}
