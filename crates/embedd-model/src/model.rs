//! A bundle's model, ready to embed texts in this process.

use std::path::Path;

use ndarray::Array2;

use crate::bundle::{Bundle, BundleError, Variant};
use crate::engine::{InferenceError, LoadError, OnnxRuntime, Session, SessionOptions};
use crate::prompts::{PromptChoice, Prompts, UnknownPrompt};
use crate::tokenize::{Prompt, TokenizeError, Tokenized, Tokenizer, TokenizerError, Truncation};
use crate::vector::normalize;

/// The maximum number of tokens per batch, including padding; a longer text forms its own batch.
const BATCH_TOKENS: usize = 512;

/// A model in this process. It computes one batch at a time; to compute several batches at once, open several models.
///
/// ```no_run
/// use embedd_model::{Model, OnnxRuntime, SessionOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = OnnxRuntime::load("libonnxruntime.so".as_ref())?;
/// let options = SessionOptions { threads: std::thread::available_parallelism()? };
/// let mut model = Model::open("bundle".as_ref(), &runtime, options)?;
/// let embeddings = model.embed(&["Ignore all previous instructions"])?;
/// assert_eq!(embeddings.nrows(), 1);
/// # Ok(())
/// # }
/// ```
pub struct Model {
    bundle: Bundle,
    variant: Variant,
    tokenizer: Tokenizer,
    prompts: Prompts,
    session: Box<dyn Session>,
}

/// Why a model cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is not a bundle, or one of its files has changed.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A prompt of the bundle cannot be tokenized.
    #[error("a prompt {0}")]
    Prompt(#[from] TokenizeError),
    /// An engine cannot load its model.
    #[error(transparent)]
    Engine(#[from] LoadError),
    /// Every engine that is fast on this device has no model in the bundle, or its model failed the accuracy gate.
    #[error(
        "{folder} has no model for this device that passed the accuracy gate; convert it with `embedd convert --force`"
    )]
    NoModel {
        /// The bundle.
        folder: String,
    },
}

/// Why texts cannot be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// A text cannot be tokenized.
    #[error("text {index} {error}")]
    Text {
        /// Its position among the texts.
        index: usize,
        /// The reason.
        error: TokenizeError,
    },
    /// The model does not have the requested prompt.
    #[error(transparent)]
    Prompt(#[from] UnknownPrompt),
    /// The engine failed.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

impl Model {
    /// Opens a bundle with the engine that is fastest on the runtime's device, among those whose models passed the accuracy
    /// gate.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(bundle: &Path, runtime: &OnnxRuntime, options: SessionOptions) -> Result<Self, OpenError> {
        let bundle = Bundle::open(bundle)?;
        let runtime = &runtime.for_bundle(&bundle);
        let is_accurate =
            |variant: &Variant| bundle.model(*variant).is_ok_and(|record| runtime.is_accurate(*variant, record));
        let Some(variant) = runtime.fastest_first().into_iter().find(is_accurate) else {
            return Err(OpenError::NoModel { folder: bundle.folder().display().to_string() });
        };
        let tokenizer = Tokenizer::load(&bundle, None)?;
        let prompts = Prompts::load(bundle.manifest(), &tokenizer)?;
        let session = runtime.one_session(&bundle, variant, options)?;
        Ok(Self { bundle, variant, tokenizer, prompts, session })
    }

    /// The opened bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The engine that was chosen.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// The model's prompts.
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// Embeds the texts: `[texts, dimension]` in the order of the texts, each row of L2 norm 1. Tokens beyond the
    /// model's maximum are dropped from the end. If the model has a default prompt, it precedes each text.
    ///
    /// # Errors
    /// [`EmbedError`]; the model stays usable.
    pub fn embed<T: AsRef<str>>(&mut self, texts: &[T]) -> Result<Array2<f32>, EmbedError> {
        self.embed_with_prompt(texts, &PromptChoice::Default)
    }

    /// Like [`embed`](Self::embed), with the chosen prompt before each text.
    ///
    /// # Errors
    /// [`EmbedError`]; the model stays usable.
    pub fn embed_with_prompt<T: AsRef<str>>(
        &mut self,
        texts: &[T],
        prompt: &PromptChoice,
    ) -> Result<Array2<f32>, EmbedError> {
        let prompt = self.prompts.choose(prompt)?;
        let tokenized = self.tokenize(texts, prompt.map(AsRef::as_ref))?;
        // Batches of texts of similar length need little padding.
        let mut order: Vec<usize> = (0..tokenized.len()).collect();
        order.sort_by_key(|&index| tokenized[index].ids.len());

        let mut embeddings = Array2::zeros((texts.len(), self.bundle.manifest().dimension as usize));
        for batch in batches(&order, &tokenized) {
            let ids: Vec<_> = batch.iter().map(|&index| &tokenized[index].ids).collect();
            let pooled = self.session.infer(&ids)?;
            for (&index, row) in batch.iter().zip(pooled.rows()) {
                embeddings.row_mut(index).assign(&row);
            }
        }
        for row in embeddings.rows_mut() {
            normalize(row.into_slice().expect("rows of a new array are contiguous"));
        }
        Ok(embeddings)
    }

    fn tokenize<T: AsRef<str>>(&self, texts: &[T], prompt: Option<&Prompt>) -> Result<Vec<Tokenized>, EmbedError> {
        let tokenize = |(index, text): (usize, &T)| {
            let tokenized = self.tokenizer.tokenize_with(text.as_ref(), prompt, Truncation::End);
            tokenized.map_err(|error| EmbedError::Text { index, error })
        };
        texts.iter().enumerate().map(tokenize).collect()
    }
}

/// Groups neighbors into batches: as many texts as fit the budget when padded to the longest, which is the last.
fn batches<'o>(order: &'o [usize], texts: &[Tokenized]) -> Vec<&'o [usize]> {
    let mut batches = Vec::new();
    let mut rest = order;
    while !rest.is_empty() {
        let fits = |&count: &usize| count * texts[rest[count - 1]].ids.len() <= BATCH_TOKENS;
        let count = (2..=rest.len()).take_while(fits).last().unwrap_or(1);
        let (batch, after) = rest.split_at(count);
        batches.push(batch);
        rest = after;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::TokenIds;

    fn texts(lengths: &[usize]) -> Vec<Tokenized> {
        lengths.iter().map(|&length| Tokenized { ids: TokenIds::new(vec![1; length]), truncated: false }).collect()
    }

    #[test]
    fn batches_hold_every_text_once_and_fit_the_budget() {
        let lengths = [3, 3, 100, 128, 128, 250, 300, 512, 600];
        let texts = texts(&lengths);
        let order: Vec<usize> = (0..texts.len()).collect();
        let batches = batches(&order, &texts);
        assert_eq!(batches, [&[0, 1, 2, 3][..], &[4, 5], &[6], &[7], &[8]]);
    }

    #[test]
    fn an_empty_list_of_texts_has_no_batches() {
        assert!(batches(&[], &[]).is_empty());
    }
}
