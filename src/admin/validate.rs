//! Compares the serving engine with a reference, one text at a time, so that callers wait for at most one more text.

use super::probe::{Probe, ProbeError};
use crate::embed::Embedder;
use crate::model_slot::Served;
use embedd_model::accuracy::{Accuracy, TextAccuracy};
use embedd_model::reference::{ReferenceSet, ReferenceText};

/// The bundle has no reference set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the bundle being served has no reference set; send pairs of texts and embeddings, or convert with --reference"
)]
pub(crate) struct NoReference;

/// A comparison of the serving engine with reference embeddings.
#[derive(Debug)]
pub(crate) struct Validation<'a> {
    /// The texts, each with its index in the reference.
    texts: Vec<(usize, &'a ReferenceText)>,
    left_out: usize,
    threshold: f64,
}

/// The result of a validation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Validated {
    pub accuracy: Accuracy,
    /// Texts that were skipped because the server and the reference truncate them at different lengths, or treat the
    /// special tokens in them differently.
    pub left_out: usize,
}

impl<'a> Validation<'a> {
    /// Compares with pairs that the caller sent.
    pub(crate) fn of_pairs(pairs: &'a [ReferenceText], threshold: f64) -> Self {
        Self { texts: pairs.iter().enumerate().collect(), left_out: 0, threshold }
    }

    /// Compares with the reference set of the bundle.
    ///
    /// # Errors
    /// [`NoReference`].
    pub(crate) fn of_bundle(served: &'a Served, threshold: f64) -> Result<Self, NoReference> {
        let reference = served.reference.as_ref().ok_or(NoReference)?;
        let mut texts = comparable(reference, served.embedder.max_tokens());
        texts.retain(|(_, reference)| !served.embedder.differs_from_pytorch(&reference.text));
        Ok(Self { left_out: reference.texts.len() - texts.len(), texts, threshold })
    }

    /// # Errors
    /// [`ProbeError`].
    pub(crate) async fn run(&self, embedder: &Embedder) -> Result<Validated, ProbeError> {
        let mut texts = Vec::with_capacity(self.texts.len());
        for &(index, reference) in &self.texts {
            // As in PyTorch.
            let prompt = embedder.model().own_default_prompt.clone();
            let embedded = Probe::of(vec![reference.text.clone()], prompt, embedder).embed(embedder).await?;
            texts.extend(embedded.into_iter().flat_map(|embedded| embedded.embeddings).map(|embedding| {
                let tokens = u32::try_from(embedding.token_count).unwrap_or(u32::MAX);
                let found = &embedding.values;
                TextAccuracy::compare(index, &reference.id, tokens, found, &reference.embedding, self.threshold)
            }));
        }
        Ok(Validated { accuracy: Accuracy::of(texts, self.threshold), left_out: self.left_out })
    }
}

/// All texts if this server truncates at the same length as the reference, otherwise those that neither truncates.
fn comparable(reference: &ReferenceSet, max_tokens: usize) -> Vec<(usize, &ReferenceText)> {
    let same_limit = reference.max_tokens as usize == max_tokens;
    let whole =
        |text: &ReferenceText| text.token_count < reference.max_tokens && text.token_count as usize <= max_tokens;
    reference.texts.iter().enumerate().filter(|(_, text)| same_limit || whole(text)).collect()
}

#[cfg(test)]
mod tests;
