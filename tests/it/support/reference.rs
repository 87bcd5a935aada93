//! The reference set: texts, and their embeddings by PyTorch.

use embedd_model::accuracy::cosine;
use embedd_model::reference::{ReferenceSet, ReferenceText};

use super::models::Model;
use super::server::{Server, embed};

/// The minimum cosine to PyTorch of a text by an INT8 model.
pub(crate) const MIN_COSINE: f64 = 0.995;
/// The minimum mean of these cosines.
pub(crate) const MIN_MEAN_COSINE: f64 = 0.9993;
/// The minimum cosine of a text alone to the same text in a padded batch.
pub(crate) const MIN_BATCH_COSINE: f64 = 0.9999;

pub(crate) fn load(model: Model) -> ReferenceSet {
    let set = ReferenceSet::read(&model.reference()).expect("the reference set");
    assert_eq!(set.texts.len(), 253, "the whole reference set");
    set
}

pub(crate) fn find<'s>(set: &'s ReferenceSet, id: &str) -> &'s ReferenceText {
    set.texts.iter().find(|text| text.id == id).expect("a text of the reference set")
}

/// Asserts that every text has the embedding of PyTorch, alone and among others, and that the two `agree`.
pub(crate) async fn assert_near_pytorch(server: &Server, model: Model, agree: impl Fn(&[f32], &[f32]) -> bool) {
    let mut client = server.client().await;
    let mut cosines = Vec::new();
    for texts in load(model).texts.chunks(64) {
        let request: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
        let together = embed(&mut client, &request).await.embeddings;
        for (text, embedding) in texts.iter().zip(together) {
            let alone = embed(&mut client, &[&text.text]).await.embeddings.remove(0);
            let agreement = cosine(&alone.values, &embedding.values);
            assert!(agree(&alone.values, &embedding.values), "{}: {agreement}", text.id);
            let cosine = cosine(&alone.values, &text.embedding);
            assert!(cosine >= MIN_COSINE, "{}: {cosine}", text.id);
            cosines.push(cosine);
        }
    }
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    assert!(mean >= MIN_MEAN_COSINE, "mean {mean}");
}
