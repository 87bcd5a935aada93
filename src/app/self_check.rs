//! The startup self-check: before a model serves, its sessions embed some texts of the bundle's reference set. If this
//! CPU, the library or a file leads to results that differ from the validated ones, the model must not serve.

use std::path::PathBuf;

use embedd_model::accuracy::{DEFAULT_THRESHOLD, cosine};
use embedd_model::bundle::{Bundle, BundleError, REFERENCE_FILE, Variant};
use embedd_model::engine::{InferenceError, Session, TokenIds};
use embedd_model::reference::{ReferenceError, ReferenceSet, ReferenceText};
use embedd_model::tokenize::{Prompt, TokenizeError, Tokenizer, Truncation};

/// Texts to embed: half of them edge cases, half of them ordinary.
const TEXTS: usize = 8;
/// The maximum tokens per text: all texts together take a tenth of a second on the slowest engine.
const MAX_TOKENS: usize = 48;
/// The prefix of the ids of edge cases.
const EDGE_CASE: &str = "edge-";

/// Why the self-check failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelfCheckError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("the reference text {id} {error}")]
    Tokenize { id: String, error: TokenizeError },
    #[error(
        "the reference text {id} has {found} tokens here, but {expected} in PyTorch: the tokenizer of {bundle} does \
         not belong to the model; convert the model again with `embedd convert --force`"
    )]
    Tokens { id: String, found: usize, expected: u32, bundle: PathBuf },
    #[error(
        "the manifest of {bundle} says that vectors have {expected} components, but they have {found}; convert the model \
         again with `embedd convert --force`"
    )]
    Dimension { bundle: PathBuf, expected: u32, found: usize },
    #[error(
        "the tokenizer of {bundle} has the token id {id}, which the model rejects ({error}): the two do not belong \
         together; convert the model again with `embedd convert --force`"
    )]
    Vocabulary { bundle: PathBuf, id: u32, error: InferenceError },
    #[error("inference failed: {0}")]
    Infer(#[from] InferenceError),
    #[error(
        "the {engine} engine ({instruction_set}) is less accurate on this machine than when it was validated: the \
         reference text {id} has cosine {cosine:.5} to PyTorch, below the threshold {threshold:.5}; serve another \
         engine, such as --engine fp32, or convert the model again with `embedd convert --force`"
    )]
    Cosine { id: String, cosine: f64, threshold: f64, engine: Variant, instruction_set: String },
}

/// Reference texts to compare, and the threshold.
pub(super) struct SelfCheck {
    texts: Vec<(TokenIds, ReferenceText)>,
    threshold: f64,
    engine: Variant,
    instruction_set: String,
}

/// The bundle's reference set, if it has one.
pub(super) fn reference(bundle: &Bundle) -> Result<Option<ReferenceSet>, SelfCheckError> {
    if !bundle.manifest().files.contains_key(REFERENCE_FILE) {
        return Ok(None);
    }
    let contents = bundle.read_small(REFERENCE_FILE)?;
    Ok(Some(ReferenceSet::parse(&contents, &bundle.folder().join(REFERENCE_FILE))?))
}

/// Embeds the token with the largest id. If the model has no such token, every request with that token would fail.
pub(super) fn vocabulary(
    tokenizer: &Tokenizer,
    bundle: &Bundle,
    session: &mut dyn Session,
) -> Result<(), SelfCheckError> {
    let (id, _) = tokenizer.largest_id();
    let embedded = session.infer(&[&TokenIds::new([id])]);
    embedded.map(drop).map_err(|error| SelfCheckError::Vocabulary { bundle: bundle.folder().to_owned(), id, error })
}

impl SelfCheck {
    /// Chooses the texts and tokenizes them, with the model's default prompt before each.
    pub(super) fn of(
        reference: &ReferenceSet,
        tokenizer: &Tokenizer,
        prompt: Option<&Prompt>,
        bundle: &Bundle,
        engine: Variant,
        instruction_set: &str,
    ) -> Result<Self, SelfCheckError> {
        let tokenize = |text: &ReferenceText| {
            let failed = |error| SelfCheckError::Tokenize { id: text.id.clone(), error };
            let ids = tokenizer.tokenize_with(&text.text, prompt, Truncation::Reject).map_err(failed)?.ids;
            if ids.len() == text.token_count as usize {
                return Ok((ids, text.clone()));
            }
            Err(SelfCheckError::Tokens {
                id: text.id.clone(),
                found: ids.len(),
                expected: text.token_count,
                bundle: bundle.folder().to_owned(),
            })
        };
        let expected = bundle.manifest().dimension;
        if reference.dimension != expected as usize {
            let bundle = bundle.folder().to_owned();
            return Err(SelfCheckError::Dimension { bundle, expected, found: reference.dimension });
        }
        let texts = choose(reference, tokenizer.max_tokens()).into_iter().map(tokenize).collect::<Result<_, _>>()?;
        let accuracy = bundle.manifest().models.get(&engine).and_then(|model| model.accuracy);
        let threshold = accuracy.map_or(DEFAULT_THRESHOLD, |accuracy| accuracy.threshold);
        Ok(Self { texts, threshold, engine, instruction_set: instruction_set.to_owned() })
    }

    /// The number of texts; 0 if all are too long.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Each session embeds its share of the texts, at least one, concurrently with the others. Returns the minimum
    /// cosine.
    pub(super) fn run(&self, sessions: &mut [Box<dyn Session>]) -> Result<f64, SelfCheckError> {
        let count = sessions.len();
        std::thread::scope(|scope| {
            let shares = sessions.iter_mut().enumerate().map(|(index, session)| {
                scope.spawn(move || {
                    let own = self.texts.iter().skip(index % self.texts.len().max(1)).step_by(count);
                    own.map(|(ids, text)| self.compare(session.as_mut(), ids, text)).collect::<Result<Vec<_>, _>>()
                })
            });
            let mut min_cosine = f64::INFINITY;
            for share in shares.collect::<Vec<_>>() {
                let cosines = share.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))?;
                min_cosine = cosines.into_iter().fold(min_cosine, f64::min);
            }
            Ok(min_cosine)
        })
    }

    fn compare(&self, session: &mut dyn Session, ids: &TokenIds, text: &ReferenceText) -> Result<f64, SelfCheckError> {
        let pooled = session.infer(&[ids])?;
        let cosine = cosine(pooled.as_slice().unwrap_or_default(), &text.embedding);
        if cosine >= self.threshold {
            return Ok(cosine);
        }
        // NaN also fails.
        Err(SelfCheckError::Cosine {
            id: text.id.clone(),
            cosine,
            threshold: self.threshold,
            engine: self.engine,
            instruction_set: self.instruction_set.clone(),
        })
    }
}

/// Chooses texts of all lengths, but only those that neither PyTorch nor this tokenizer truncates.
fn choose(reference: &ReferenceSet, max_tokens: usize) -> Vec<&ReferenceText> {
    let short = |text: &&ReferenceText| {
        let tokens = text.token_count as usize;
        tokens <= MAX_TOKENS.min(max_tokens) && text.token_count < reference.max_tokens
    };
    let (mut edge_cases, mut ordinary): (Vec<_>, Vec<_>) =
        reference.texts.iter().filter(short).partition(|text| text.id.starts_with(EDGE_CASE));
    let edge_cases = spread(&mut edge_cases, TEXTS / 2);
    let ordinary = spread(&mut ordinary, TEXTS - edge_cases.len());
    // Sessions take texts in turn; with the texts sorted by length, no session gets only long ones.
    let mut chosen = [edge_cases, ordinary].concat();
    chosen.sort_by_key(|text| text.token_count);
    chosen
}

/// Up to `count` of the texts, including the shortest and the longest.
fn spread<'r>(texts: &mut [&'r ReferenceText], count: usize) -> Vec<&'r ReferenceText> {
    texts.sort_by_key(|text| text.token_count);
    let count = count.min(texts.len());
    (0..count).map(|index| texts[index * (texts.len() - 1) / (count - 1).max(1)]).collect()
}

#[cfg(test)]
mod tests;
