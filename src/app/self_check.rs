//! Before a model serves, its sessions embed some texts of the bundle's reference set on this very machine: a CPU, a
//! library or a file that computes something else than what was proven must not serve.

use std::path::PathBuf;

use embedd_model::accuracy::{DEFAULT_THRESHOLD, cosine};
use embedd_model::bundle::{Bundle, BundleError, REFERENCE_FILE, Variant};
use embedd_model::engine::{InferenceError, Session, TokenIds};
use embedd_model::reference::{ReferenceError, ReferenceSet, ReferenceText};
use embedd_model::tokenize::Truncation;
use embedd_model::tokenize::{TokenizeError, Tokenizer};

/// Texts that are embedded: half of them made to be hard, half as they come.
const TEXTS: usize = 8;
/// Tokens of such a text at most: all of them take a tenth of a second with the slowest engine.
const LONGEST: usize = 48;
/// How the names of texts begin that were made to be hard.
const HARD: &str = "edge-";

/// Why a model must not serve.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages tell")]
pub(crate) enum SelfCheckError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("the reference text {id} {error}")]
    Tokenize { id: String, error: TokenizeError },
    #[error(
        "the reference text {id} has {found} tokens here and had {expected} for PyTorch: the tokeniser of {bundle} is \
         not the model's; convert the model again with `embedd convert --force`"
    )]
    Tokens { id: String, found: usize, expected: u32, bundle: PathBuf },
    #[error("the model does not answer: {0}")]
    Infer(#[from] InferenceError),
    #[error(
        "the {engine} engine ({instruction_set}) does not compute on this machine what was proven: the reference text \
         {id} has cosine {cosine:.5} to PyTorch, and the gate is {threshold:.5}; serve another engine, such as \
         --engine fp32, or convert the model again with `embedd convert --force`"
    )]
    Cosine { id: String, cosine: f64, threshold: f64, engine: Variant, instruction_set: String },
}

/// What is compared, with what.
pub(super) struct SelfCheck {
    texts: Vec<(TokenIds, ReferenceText)>,
    threshold: f64,
    engine: Variant,
    instruction_set: String,
}

/// The bundle's reference set, where it has one.
pub(super) fn reference(bundle: &Bundle) -> Result<Option<ReferenceSet>, SelfCheckError> {
    if !bundle.manifest().files.contains_key(REFERENCE_FILE) {
        return Ok(None);
    }
    Ok(Some(ReferenceSet::read(&bundle.verify(REFERENCE_FILE)?)?))
}

impl SelfCheck {
    /// Chooses the texts, and tokenises them.
    pub(super) fn of(
        reference: &ReferenceSet,
        tokenizer: &Tokenizer,
        bundle: &Bundle,
        engine: Variant,
        instruction_set: &str,
    ) -> Result<Self, SelfCheckError> {
        let tokenize = |text: &ReferenceText| {
            let failed = |error| SelfCheckError::Tokenize { id: text.id.clone(), error };
            let ids = tokenizer.tokenize(&text.text, Truncation::Reject).map_err(failed)?.ids;
            if ids.len() == text.token_count as usize {
                return Ok((ids, text.clone()));
            }
            let (id, expected) = (text.id.clone(), text.token_count);
            Err(SelfCheckError::Tokens { id, found: ids.len(), expected, bundle: bundle.folder().to_owned() })
        };
        let texts = choose(reference, tokenizer.max_tokens()).into_iter().map(tokenize).collect::<Result<_, _>>()?;
        let accuracy = bundle.manifest().models.get(&engine).and_then(|model| model.accuracy);
        let threshold = accuracy.map_or(DEFAULT_THRESHOLD, |accuracy| accuracy.threshold);
        Ok(Self { texts, threshold, engine, instruction_set: instruction_set.to_owned() })
    }

    /// How many texts are compared; none where all are too long.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Every session embeds its share of the texts, at least one, while the others do. Gives the least cosine.
    pub(super) fn run(&self, sessions: &mut [Box<dyn Session>]) -> Result<f64, SelfCheckError> {
        let count = sessions.len();
        std::thread::scope(|scope| {
            let shares = sessions.iter_mut().enumerate().map(|(index, session)| {
                scope.spawn(move || {
                    let own = self.texts.iter().skip(index % self.texts.len().max(1)).step_by(count);
                    own.map(|(ids, text)| self.compare(session.as_mut(), ids, text)).collect::<Result<Vec<_>, _>>()
                })
            });
            let mut least = f64::INFINITY;
            for share in shares.collect::<Vec<_>>() {
                let cosines = share.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))?;
                least = cosines.into_iter().fold(least, f64::min);
            }
            Ok(least)
        })
    }

    fn compare(&self, session: &mut dyn Session, ids: &TokenIds, text: &ReferenceText) -> Result<f64, SelfCheckError> {
        let pooled = session.infer(&[ids])?;
        let cosine = cosine(pooled.as_slice().unwrap_or_default(), &text.embedding);
        if cosine >= self.threshold {
            return Ok(cosine);
        }
        let (id, instruction_set) = (text.id.clone(), self.instruction_set.clone());
        // Not a number where there is none: that fails, too.
        Err(SelfCheckError::Cosine { id, cosine, threshold: self.threshold, engine: self.engine, instruction_set })
    }
}

/// Texts that neither PyTorch nor this tokeniser cuts, spread over the lengths.
fn choose(reference: &ReferenceSet, max_tokens: usize) -> Vec<&ReferenceText> {
    let short = |text: &&ReferenceText| {
        let tokens = text.token_count as usize;
        tokens <= LONGEST.min(max_tokens) && text.token_count < reference.max_tokens
    };
    let (mut hard, mut plain): (Vec<_>, Vec<_>) =
        reference.texts.iter().filter(short).partition(|text| text.id.starts_with(HARD));
    let hard = spread(&mut hard, TEXTS / 2);
    let plain = spread(&mut plain, TEXTS - hard.len());
    // Neighbours take turns, so that no session gets the long ones only.
    let mut chosen = [hard, plain].concat();
    chosen.sort_by_key(|text| text.token_count);
    chosen
}

/// So many of the texts at most, the shortest and the longest among them.
fn spread<'r>(texts: &mut [&'r ReferenceText], count: usize) -> Vec<&'r ReferenceText> {
    texts.sort_by_key(|text| text.token_count);
    let count = count.min(texts.len());
    (0..count).map(|index| texts[index * (texts.len() - 1) / (count - 1).max(1)]).collect()
}

#[cfg(test)]
mod tests;
