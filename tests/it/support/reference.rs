//! The reference set: texts, and their embeddings by PyTorch.

use embedd_kernels::CpuInstructions;
use embedd_model::accuracy::cosine;
use embedd_model::reference::{ReferenceSet, ReferenceText};

use super::models::Model;
use super::server::{Server, embed};
use super::skips::not_tested;

/// How close the vectors of an INT8 model must be to PyTorch's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nearness {
    /// The minimum cosine of a text.
    pub(crate) min_cosine: f64,
    /// The minimum mean of these cosines.
    mean_cosine: f64,
}

impl Nearness {
    /// For INT8 models with exact sums: the native model on every CPU, and the portable model on CPUs with INT8 dot
    /// products.
    pub(crate) const EXACT: Self = Self { min_cosine: 0.995, mean_cosine: 0.9993 };

    /// For the portable model on this CPU.
    pub(crate) fn portable() -> Self {
        if CpuInstructions::widest().has_int8_dot_products() {
            return Self::EXACT;
        }
        not_tested("the portable model's accuracy where INT8 sums do not saturate: this CPU has no INT8 dot products");
        Self { min_cosine: 0.99, mean_cosine: 0.998 }
    }

    pub(crate) fn holds(self, min_cosine: f64, mean_cosine: f64) -> bool {
        min_cosine >= self.min_cosine && mean_cosine >= self.mean_cosine
    }
}

/// The minimum cosine of a text alone to the same text in a padded batch.
pub(crate) const MIN_BATCH_COSINE: f64 = 0.9999;

pub(crate) fn load(model: Model) -> ReferenceSet {
    let set = ReferenceSet::read(&model.reference()).expect("the reference set");
    assert_eq!(set.texts.len(), 253, "the whole reference set");
    set
}

/// The texts that tests send to servers of the model: all, or every fourth if the model is large. The conversion compares
/// the embeddings of all texts with PyTorch's.
pub(crate) fn to_serve(model: Model) -> Vec<ReferenceText> {
    let step = if model == Model::Mpnet { 4 } else { 1 };
    load(model).texts.into_iter().step_by(step).collect()
}

pub(crate) fn find<'s>(set: &'s ReferenceSet, id: &str) -> &'s ReferenceText {
    set.texts.iter().find(|text| text.id == id).expect("a text of the reference set")
}

/// Asserts that embeddings of texts alone are close to PyTorch's, and that those in a batch `agree` with them.
pub(crate) async fn assert_near_pytorch(
    server: &Server,
    model: Model,
    nearness: Nearness,
    agree: impl Fn(&[f32], &[f32]) -> bool,
) {
    let mut client = server.client().await;
    let mut cosines = Vec::new();
    for texts in to_serve(model).chunks(64) {
        let request: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
        let together = embed(&mut client, &request).await.embeddings;
        for (text, embedding) in texts.iter().zip(together) {
            let alone = embed(&mut client, &[&text.text]).await.embeddings.remove(0);
            let agreement = cosine(&alone.values, &embedding.values);
            assert!(agree(&alone.values, &embedding.values), "{}: {agreement}", text.id);
            let cosine = cosine(&alone.values, &text.embedding);
            assert!(cosine >= nearness.min_cosine, "{}: {cosine}", text.id);
            cosines.push(cosine);
        }
    }
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    assert!(mean >= nearness.mean_cosine, "mean {mean}");
}
