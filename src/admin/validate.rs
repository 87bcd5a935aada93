//! The serving engine against a reference: one text at a time, so that callers wait for one text more at most.

use super::probe::{Probe, ProbeError};
use crate::embed::Embedder;
use crate::model_slot::Served;
use embedd_model::accuracy::{Accuracy, TextAccuracy};
use embedd_model::reference::{ReferenceSet, ReferenceText};

/// The bundle has no reference set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the bundle being served has no reference set: send pairs of texts and embeddings, or convert with --reference"
)]
pub(crate) struct NoReference;

/// What is compared.
#[derive(Debug)]
pub(crate) struct Validation<'a> {
    /// Their places in the reference, and the texts.
    texts: Vec<(usize, &'a ReferenceText)>,
    left_out: usize,
    threshold: f64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Validated {
    /// One a text that was compared.
    pub accuracy: Accuracy,
    /// Texts of the reference that this server cuts elsewhere than the reference did, and that say nothing.
    pub left_out: usize,
}

impl<'a> Validation<'a> {
    /// These texts, which are those of the caller.
    pub(crate) fn of_pairs(pairs: &'a [ReferenceText], threshold: f64) -> Self {
        Self { texts: pairs.iter().enumerate().collect(), left_out: 0, threshold }
    }

    /// The reference set of the bundle.
    ///
    /// # Errors
    /// [`NoReference`].
    pub(crate) fn of_bundle(served: &'a Served, threshold: f64) -> Result<Self, NoReference> {
        let reference = served.reference.as_ref().ok_or(NoReference)?;
        let texts = comparable(reference, served.embedder.max_tokens());
        Ok(Self { left_out: reference.texts.len() - texts.len(), texts, threshold })
    }

    /// Embeds and compares.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub(crate) async fn run(&self, embedder: &Embedder) -> Result<Validated, ProbeError> {
        let mut texts = Vec::with_capacity(self.texts.len());
        for &(index, reference) in &self.texts {
            let embedded = Probe::of(vec![reference.text.clone()], embedder).embed(embedder).await?;
            texts.extend(embedded.into_iter().flat_map(|embedded| embedded.embeddings).map(|embedding| {
                let tokens = u32::try_from(embedding.token_count).unwrap_or(u32::MAX);
                let (found, expected) = (&embedding.values, &reference.embedding);
                TextAccuracy::compare(index, &reference.id, tokens, found, expected, self.threshold)
            }));
        }
        Ok(Validated { accuracy: Accuracy::of(texts, self.threshold), left_out: self.left_out })
    }
}

/// All texts where this server cuts at the reference's number of tokens; else those that neither of them cuts.
fn comparable(reference: &ReferenceSet, max_tokens: usize) -> Vec<(usize, &ReferenceText)> {
    let cut_alike = reference.max_tokens as usize == max_tokens;
    let whole =
        |text: &ReferenceText| text.token_count < reference.max_tokens && text.token_count as usize <= max_tokens;
    reference.texts.iter().enumerate().filter(|(_, text)| cut_alike || whole(text)).collect()
}

#[cfg(test)]
mod tests;
