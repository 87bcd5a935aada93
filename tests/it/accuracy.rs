//! The float32 model, served over gRPC, returns the embeddings of PyTorch.

use embedd_model::accuracy::cosine;

use crate::support::models::Model;
use crate::support::reference::{Nearness, assert_near_pytorch};
use crate::support::server::shared;

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
