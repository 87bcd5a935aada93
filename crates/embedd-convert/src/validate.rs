//! The accuracy gate: a model's embeddings against PyTorch's, or against those of another model.

use std::path::PathBuf;

use embedd_common::progress::{Progress, Unit};
use embedd_model::accuracy::{Accuracy, TextAccuracy, cosine};
use embedd_model::engine::{InferenceError, Session, TokenIds};
use embedd_model::reference::ReferenceSet;
use embedd_model::tokenize::Truncation;
use embedd_model::tokenize::{TokenizeError, Tokenizer};

pub use embedd_model::accuracy::DEFAULT_THRESHOLD;

mod texts;

pub use texts::{NamedText, parse_texts};

/// Texts of a padded batch in `batch_agreement`: enough that most are padded, few enough to be quick.
const BATCH: usize = 8;
/// Texts, sorted by length, that batches are formed among.
const WINDOW: usize = 4 * BATCH;

/// Why a model could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// The reference set is another model's.
    #[error(
        "the model's embeddings have {model} components and those of the reference set {reference}: it was made of \
         another model; reference/make_reference.py makes one of this model"
    )]
    Dimension {
        /// Of the model.
        model: usize,
        /// Of the reference set.
        reference: usize,
    },
    /// A text is not tokenised as it was when the reference set was made.
    #[error(
        "text {index} ({id}) has {found} tokens here and {expected} in the reference set: the tokeniser or the maximum \
         of tokens is another one; reference/make_reference.py makes a set of this model"
    )]
    TokenCount {
        /// The text's place.
        index: usize,
        /// The text's name.
        id: String,
        /// In the reference set.
        expected: u32,
        /// As the bundle's tokeniser has it.
        found: usize,
    },
    /// A text cannot be tokenised.
    #[error("text {index} ({id}) {source}")]
    Tokenize {
        /// The text's place.
        index: usize,
        /// The text's name.
        id: String,
        /// What the tokeniser said.
        source: TokenizeError,
    },
    /// The model failed on a text.
    #[error("text {index} ({id}): {source}")]
    Inference {
        /// The text's place.
        index: usize,
        /// The text's name.
        id: String,
        /// What the model said.
        source: InferenceError,
    },
    /// A file of texts has none, or a line that is no text.
    #[error("{path}{}: {reason}; expected one text a line, plain or as {{\"text\": ...}}", place(*.line))]
    Texts {
        /// The file.
        path: PathBuf,
        /// Counted from 1; 0 where the whole file is meant.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

fn place(line: usize) -> String {
    if line == 0 { String::new() } else { format!(", line {line}") }
}

/// The texts of a set as a model sees them.
#[derive(Debug)]
pub struct TokenizedSet<'s>(Vec<(&'s str, TokenIds)>);

impl<'s> TokenizedSet<'s> {
    /// Tokenises texts, each with its name; those that are too long lose their end.
    ///
    /// # Errors
    /// [`ValidateError::Tokenize`].
    pub fn of(
        texts: impl IntoIterator<Item = (&'s str, &'s str)>,
        tokenizer: &Tokenizer,
    ) -> Result<Self, ValidateError> {
        let tokenize = |(index, (id, text)): (usize, (&'s str, &'s str))| {
            let error = |source| ValidateError::Tokenize { index, id: id.to_owned(), source };
            Ok((id, tokenizer.tokenize(text, Truncation::End).map_err(error)?.ids))
        };
        Ok(Self(texts.into_iter().enumerate().map(tokenize).collect::<Result<_, _>>()?))
    }
}

/// A reference set with its texts as a model sees them.
#[derive(Debug)]
pub struct ReferenceTexts<'r> {
    reference: &'r ReferenceSet,
    set: TokenizedSet<'r>,
}

impl<'r> ReferenceTexts<'r> {
    /// The texts must have the tokens that they had when the set was made.
    ///
    /// # Errors
    /// [`ValidateError::Tokenize`], [`ValidateError::TokenCount`].
    pub fn of(reference: &'r ReferenceSet, tokenizer: &Tokenizer) -> Result<Self, ValidateError> {
        let texts = reference.texts.iter().map(|text| (text.id.as_str(), text.text.as_str()));
        let set = TokenizedSet::of(texts, tokenizer)?;
        for (index, (text, (id, ids))) in reference.texts.iter().zip(&set.0).enumerate() {
            if ids.len() != text.token_count as usize {
                let (id, expected, found) = ((*id).to_owned(), text.token_count, ids.len());
                return Err(ValidateError::TokenCount { index, id, expected, found });
            }
        }
        Ok(Self { reference, set })
    }
}

/// Whether texts are also embedded in padded batches with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batches {
    /// They are.
    Compared,
    /// Each text alone.
    LeftOut,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Of every text alone.
    pub accuracy: Accuracy,
    /// The least cosine between a text alone and in a padded batch; absent where batches were left out.
    pub batch_agreement: Option<f64>,
}

/// Whether a reference set can be a model's. To be asked before the set's texts are tokenised: their counts would be
/// wrong as well, and tell less.
///
/// # Errors
/// [`ValidateError::Dimension`].
pub fn check_dimension(reference: &ReferenceSet, model: usize) -> Result<(), ValidateError> {
    match reference.dimension {
        dimension if dimension == model => Ok(()),
        reference => Err(ValidateError::Dimension { model, reference }),
    }
}

/// The pooled embedding of every text alone, not normalised.
///
/// # Errors
/// [`ValidateError::Inference`].
fn embed_alone(
    session: &mut dyn Session,
    set: &TokenizedSet<'_>,
    what: &str,
    progress: &Progress,
) -> Result<Vec<Vec<f32>>, ValidateError> {
    let task = progress.task(what, Some(set.0.len() as u64), Unit::Steps);
    let mut embeddings = Vec::with_capacity(set.0.len());
    for (index, (id, ids)) in set.0.iter().enumerate() {
        let error = |source| ValidateError::Inference { index, id: (*id).to_owned(), source };
        let rows = session.infer(&[ids]).map_err(error)?;
        embeddings.push(rows.into_iter().collect());
        task.advance(1);
    }
    task.finish();
    Ok(embeddings)
}

/// Compares a model, which is called `name`, with a reference set.
///
/// # Errors
/// [`ValidateError`]; a text below the threshold is none.
pub fn validate(
    session: &mut dyn Session,
    name: &str,
    texts: &ReferenceTexts<'_>,
    threshold: f64,
    batches: Batches,
    progress: &Progress,
) -> Result<Comparison, ValidateError> {
    let ReferenceTexts { reference, set } = texts;
    let alone = embed_alone(session, set, &format!("comparing {name} with the reference"), progress)?;
    alone.iter().try_for_each(|embedding| check_dimension(reference, embedding.len()))?;
    let expected = reference.texts.iter().map(|text| text.embedding.as_slice());
    let accuracy = compare(&alone, expected, set, threshold);
    let batch_agreement = match batches {
        Batches::Compared => Some(batch_agreement(session, set, &alone, progress)?),
        Batches::LeftOut => None,
    };
    Ok(Comparison { accuracy, batch_agreement })
}

/// Compares two models on texts, each text alone.
///
/// # Errors
/// [`ValidateError`]; a text below the threshold is none.
pub fn validate_against(
    session: &mut dyn Session,
    other: &mut dyn Session,
    tokenizer: &Tokenizer,
    texts: &[NamedText],
    threshold: f64,
    progress: &Progress,
) -> Result<Comparison, ValidateError> {
    let set = TokenizedSet::of(texts.iter().map(|text| (text.id.as_str(), text.text.as_str())), tokenizer)?;
    let embeddings = embed_alone(session, &set, "embedding the texts", progress)?;
    let expected = embed_alone(other, &set, "embedding the texts with the other model", progress)?;
    let accuracy = compare(&embeddings, expected.iter().map(Vec::as_slice), &set, threshold);
    Ok(Comparison { accuracy, batch_agreement: None })
}

fn compare<'e>(
    embeddings: &[Vec<f32>],
    expected: impl Iterator<Item = &'e [f32]>,
    set: &TokenizedSet<'_>,
    threshold: f64,
) -> Accuracy {
    let compared = embeddings.iter().zip(expected).zip(&set.0).enumerate();
    let texts = compared.map(|(index, ((embedding, expected), (id, ids)))| {
        TextAccuracy::compare(index, id, ids.len() as u32, embedding, expected, threshold)
    });
    Accuracy::of(texts.collect(), threshold)
}

/// The least cosine between a text's embedding alone and in a padded batch with others; not a number where an embedding
/// is none. `alone` comes from [`embed_alone`].
///
/// # Errors
/// [`ValidateError::Inference`], naming the first text of the batch.
fn batch_agreement(
    session: &mut dyn Session,
    set: &TokenizedSet<'_>,
    alone: &[Vec<f32>],
    progress: &Progress,
) -> Result<f64, ValidateError> {
    let lengths: Vec<usize> = set.0.iter().map(|(_, ids)| ids.len()).collect();
    let batches = mixed_batches(&lengths);
    let task = progress.task("comparing padded batches", Some(batches.len() as u64), Unit::Steps);
    let mut least = 1.0f64;
    for batch in batches {
        let ids: Vec<&TokenIds> = batch.iter().map(|&index| &set.0[index].1).collect();
        let first = batch[0];
        let error = |source| ValidateError::Inference { index: first, id: set.0[first].0.to_owned(), source };
        let rows = session.infer(&ids).map_err(error)?;
        for (&index, row) in batch.iter().zip(rows.outer_iter()) {
            let cosine = cosine(&row.to_vec(), &alone[index]);
            // `min` would pass over what is not a number.
            least = if cosine.is_nan() || least.is_nan() { f64::NAN } else { least.min(cosine) };
        }
        task.advance(1);
    }
    task.finish();
    Ok(least)
}

/// Every place in one batch with texts of about its length, so that most are padded and none costs much, and then one
/// batch of all lengths, most of which is padding.
fn mixed_batches(lengths: &[usize]) -> Vec<Vec<usize>> {
    let mut by_length: Vec<usize> = (0..lengths.len()).collect();
    by_length.sort_by_key(|&place| lengths[place]);
    let mut batches = Vec::new();
    for window in by_length.chunks(WINDOW) {
        let count = window.len().div_ceil(BATCH);
        batches.extend((0..count).map(|first| window.iter().skip(first).step_by(count).copied().collect()));
    }
    let step = lengths.len().div_ceil(BATCH).max(1);
    // The longest comes first.
    let spread: Vec<usize> = by_length.iter().rev().step_by(step).copied().collect();
    batches.extend((!spread.is_empty()).then_some(spread));
    batches
}

#[cfg(test)]
mod tests;
