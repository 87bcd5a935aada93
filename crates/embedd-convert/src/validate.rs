//! The accuracy gate: compares a model's embeddings with PyTorch's or with another model's.

use std::path::PathBuf;

use embedd_common::progress::{Progress, Unit};
use embedd_model::accuracy::{Accuracy, TOP, TextAccuracy, cosine, normalized, top_overlap};
use embedd_model::engine::{InferenceError, Session, TokenIds};
use embedd_model::reference::{ReferenceSet, ReferenceText};
use embedd_model::tokenize::{Prompt, TokenizeError, Tokenizer, Truncation};

pub use embedd_model::accuracy::DEFAULT_THRESHOLD;

mod texts;

pub use texts::{NamedText, parse_texts};

/// Texts per padded batch in `batch_agreement`: enough that most are padded, few enough to be fast.
const BATCH: usize = 8;
/// The number of texts of similar length from which batches are formed.
const WINDOW: usize = 4 * BATCH;

/// Why a comparison failed.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// The reference set was made with a different model.
    #[error(
        "the model's embeddings have {model} dimensions, but those of the reference set have {reference}: the set was \
         made with a different model; create one for this model with reference/make_reference.py"
    )]
    Dimension {
        /// The model's.
        model: usize,
        /// The reference set's.
        reference: usize,
    },
    /// A text has a different number of tokens than in the reference set.
    #[error(
        "text {index} ({id}) has {found} tokens, but {expected} in the reference set, which was made with a different \
         tokenizer or maximum length; create one for this model with reference/make_reference.py"
    )]
    TokenCount {
        /// The text's index.
        index: usize,
        /// The text's id.
        id: String,
        /// In the reference set.
        expected: u32,
        /// By the bundle's tokenizer.
        found: usize,
    },
    /// A text cannot be tokenized.
    #[error("text {index} ({id}) {source}")]
    Tokenize {
        /// The text's index.
        index: usize,
        /// The text's id.
        id: String,
        /// The cause.
        source: TokenizeError,
    },
    /// The model failed on a text.
    #[error("text {index} ({id}): {source}")]
    Inference {
        /// The text's index.
        index: usize,
        /// The text's id.
        id: String,
        /// The cause.
        source: InferenceError,
    },
    /// A file of texts is empty or has an invalid line.
    #[error("{path}{}: {reason}; expected one text per line, plain or as {{\"text\": ...}}", position(*.line))]
    Texts {
        /// The file.
        path: PathBuf,
        /// Counted from 1; 0 for the whole file.
        line: usize,
        /// The problem.
        reason: String,
    },
}

fn position(line: usize) -> String {
    if line == 0 { String::new() } else { format!(", line {line}") }
}

/// Tokenized texts with their ids.
#[derive(Debug)]
pub struct TokenizedSet<'s>(Vec<(&'s str, TokenIds)>);

impl<'s> TokenizedSet<'s> {
    /// Tokenizes texts, given with their ids, with a prompt before each. Long texts are truncated at the end.
    ///
    /// # Errors
    /// [`ValidateError::Tokenize`].
    pub fn of(
        texts: impl IntoIterator<Item = (&'s str, &'s str)>,
        tokenizer: &Tokenizer,
        prompt: Option<&Prompt>,
    ) -> Result<Self, ValidateError> {
        let tokenize = |(index, (id, text)): (usize, (&'s str, &'s str))| {
            let error = |source| ValidateError::Tokenize { index, id: id.to_owned(), source };
            Ok((id, tokenizer.tokenize_with(text, prompt, Truncation::End).map_err(error)?.ids))
        };
        Ok(Self(texts.into_iter().enumerate().map(tokenize).collect::<Result<_, _>>()?))
    }
}

/// A reference set and its tokenized texts.
#[derive(Debug)]
pub struct ReferenceTexts<'r> {
    reference: &'r ReferenceSet,
    set: TokenizedSet<'r>,
}

impl<'r> ReferenceTexts<'r> {
    /// Tokenizes the texts and checks that each has the same number of tokens as in the reference set. `prompt` is the
    /// model's default prompt, which precedes the texts in PyTorch, too.
    ///
    /// # Errors
    /// [`ValidateError::Tokenize`], [`ValidateError::TokenCount`].
    pub fn of(
        reference: &'r ReferenceSet,
        tokenizer: &Tokenizer,
        prompt: Option<&Prompt>,
    ) -> Result<Self, ValidateError> {
        let texts = reference.texts.iter().map(|text| (text.id.as_str(), text.text.as_str()));
        let set = TokenizedSet::of(texts, tokenizer, prompt)?;
        for (index, (text, (id, ids))) in reference.texts.iter().zip(&set.0).enumerate() {
            if ids.len() != text.token_count as usize {
                return Err(ValidateError::TokenCount {
                    index,
                    id: (*id).to_owned(),
                    expected: text.token_count,
                    found: ids.len(),
                });
            }
        }
        Ok(Self { reference, set })
    }
}

/// Whether texts are also embedded in padded batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batches {
    /// Compare each text's embedding in a batch with its embedding alone.
    Compared,
    /// Only embed each text alone.
    Skipped,
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Accuracy with each text alone.
    pub accuracy: Accuracy,
    /// How well the model keeps the reference's ranking: the [`top_overlap`] of the [`TOP`] nearest texts. `None` if
    /// there are too few texts.
    pub top10_overlap: Option<f64>,
    /// The minimum cosine between a text alone and in a padded batch; `None` if batches were skipped.
    pub batch_agreement: Option<f64>,
}

/// Checks that a reference set fits a model. Call it before tokenizing the set's texts: token counts would be wrong as
/// well, but their error is less helpful.
///
/// # Errors
/// [`ValidateError::Dimension`].
pub fn check_dimension(reference: &ReferenceSet, model: usize) -> Result<(), ValidateError> {
    match reference.dimension {
        dimension if dimension == model => Ok(()),
        reference => Err(ValidateError::Dimension { model, reference }),
    }
}

/// The pooled embedding of each text alone, not normalized.
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

/// Compares a model with a reference set; `name` is for progress reports.
///
/// # Errors
/// [`ValidateError`]. A text below the threshold is not an error.
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
    let expected: Vec<&[f32]> = reference.texts.iter().map(|text| text.embedding.as_slice()).collect();
    let comparison = compare(&alone, &expected, set, threshold);
    let batch_agreement = match batches {
        Batches::Compared => Some(batch_agreement(session, set, &alone, progress)?),
        Batches::Skipped => None,
    };
    Ok(Comparison { batch_agreement, ..comparison })
}

/// A reference set with the embeddings of a float32 model, each text alone.
///
/// # Errors
/// [`ValidateError`].
pub(super) fn reference_of(
    session: &mut dyn Session,
    name: &str,
    tokenizer: &Tokenizer,
    prompt: Option<&Prompt>,
    texts: &[(String, String)],
    progress: &Progress,
) -> Result<ReferenceSet, ValidateError> {
    let set = TokenizedSet::of(texts.iter().map(|(id, text)| (id.as_str(), text.as_str())), tokenizer, prompt)?;
    let embeddings = embed_alone(session, &set, "embedding the built-in texts in float32", progress)?;
    let texts = texts.iter().zip(&set.0).zip(embeddings).map(|(((id, text), (_, ids)), embedding)| ReferenceText {
        id: id.clone(),
        text: text.clone(),
        embedding: normalized(&embedding),
        token_count: ids.len() as u32,
    });
    Ok(ReferenceSet::of_float32(name, texts.collect(), tokenizer.max_tokens() as u32))
}

/// Compares two models on texts, each text alone.
///
/// # Errors
/// [`ValidateError`]. A text below the threshold is not an error.
pub fn validate_against(
    session: &mut dyn Session,
    other: &mut dyn Session,
    set: &TokenizedSet<'_>,
    threshold: f64,
    progress: &Progress,
) -> Result<Comparison, ValidateError> {
    let embeddings = embed_alone(session, set, "embedding the texts", progress)?;
    let expected = embed_alone(other, set, "embedding the texts with the other model", progress)?;
    let expected: Vec<&[f32]> = expected.iter().map(Vec::as_slice).collect();
    Ok(compare(&embeddings, &expected, set, threshold))
}

/// Compares embeddings of texts alone.
fn compare(embeddings: &[Vec<f32>], expected: &[&[f32]], set: &TokenizedSet<'_>, threshold: f64) -> Comparison {
    let embeddings: Vec<&[f32]> = embeddings.iter().map(Vec::as_slice).collect();
    let compared = embeddings.iter().zip(expected).zip(&set.0).enumerate();
    let texts = compared.map(|(index, ((embedding, expected), (id, ids)))| {
        TextAccuracy::compare(index, id, ids.len() as u32, embedding, expected, threshold)
    });
    Comparison {
        accuracy: Accuracy::of(texts.collect(), threshold),
        top10_overlap: top_overlap(&embeddings, expected, TOP),
        batch_agreement: None,
    }
}

/// The minimum cosine between a text's embedding alone and in a padded batch; NaN if any cosine is. `alone` comes from
/// [`embed_alone`].
///
/// # Errors
/// [`ValidateError::Inference`], with the first text of the batch.
fn batch_agreement(
    session: &mut dyn Session,
    set: &TokenizedSet<'_>,
    alone: &[Vec<f32>],
    progress: &Progress,
) -> Result<f64, ValidateError> {
    let lengths: Vec<usize> = set.0.iter().map(|(_, ids)| ids.len()).collect();
    let batches = mixed_batches(&lengths);
    let task = progress.task("comparing padded batches", Some(batches.len() as u64), Unit::Steps);
    let mut min = 1.0f64;
    for batch in batches {
        let ids: Vec<&TokenIds> = batch.iter().map(|&index| &set.0[index].1).collect();
        let first = batch[0];
        let error = |source| ValidateError::Inference { index: first, id: set.0[first].0.to_owned(), source };
        let rows = session.infer(&ids).map_err(error)?;
        for (&index, row) in batch.iter().zip(rows.outer_iter()) {
            let cosine = cosine(&row.to_vec(), &alone[index]);
            // `f64::min` ignores NaN.
            min = if cosine.is_nan() || min.is_nan() { f64::NAN } else { min.min(cosine) };
        }
        task.advance(1);
    }
    task.finish();
    Ok(min)
}

/// Batches of indices: each index is in one batch of texts of similar length, so that most are padded at little cost.
/// One more batch covers all lengths and is mostly padding.
fn mixed_batches(lengths: &[usize]) -> Vec<Vec<usize>> {
    let mut by_length: Vec<usize> = (0..lengths.len()).collect();
    by_length.sort_by_key(|&index| lengths[index]);
    let mut batches = Vec::new();
    for window in by_length.chunks(WINDOW) {
        let count = window.len().div_ceil(BATCH);
        batches.extend((0..count).map(|first| window.iter().skip(first).step_by(count).copied().collect()));
    }
    let step = lengths.len().div_ceil(BATCH).max(1);
    // Starts at the longest text.
    let spread: Vec<usize> = by_length.iter().rev().step_by(step).copied().collect();
    batches.extend((!spread.is_empty()).then_some(spread));
    batches
}

#[cfg(test)]
mod tests;
