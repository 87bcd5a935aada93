//! The reference set: texts, and what PyTorch makes of them.

use std::path::{Path, PathBuf};

use embedd_model::accuracy::cosine;
use embedd_model::reference::{ReferenceSet, ReferenceText};

use super::models::Model;
use super::server::{Server, embed};

/// The least cosine to PyTorch of a text by an INT8 model.
pub(crate) const LEAST: f64 = 0.995;
/// The least mean over the texts.
pub(crate) const LEAST_MEAN: f64 = 0.9993;
/// The least cosine of a text alone to the same in a padded batch.
pub(crate) const LEAST_AGREEMENT: f64 = 0.9999;

/// The set's file.
pub(crate) fn path(model: Model) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("reference/{}.safetensors", model.name()))
}

pub(crate) fn load(model: Model) -> ReferenceSet {
    let set = ReferenceSet::read(&path(model)).expect("the reference set");
    assert_eq!(set.texts.len(), 253, "the whole reference set");
    set
}

pub(crate) fn find<'s>(set: &'s ReferenceSet, id: &str) -> &'s ReferenceText {
    set.texts.iter().find(|text| text.id == id).expect("a text of the reference set")
}

/// Embeds every text alone and among others: near PyTorch, and both `agree`.
pub(crate) async fn near_pytorch(server: &Server, model: Model, agree: impl Fn(&[f32], &[f32]) -> bool) {
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
            assert!(cosine >= LEAST, "{}: {cosine}", text.id);
            cosines.push(cosine);
        }
    }
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    assert!(mean >= LEAST_MEAN, "mean {mean}");
}
