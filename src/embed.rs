//! The request path, from a checked request to its vectors.

use std::time::{Duration, Instant};

use crate::batch::{BatchError, Batcher};
use crate::bundle::{AccuracyRecord, Pooling, Variant};
use crate::request::{EmbedRequest, Limits, Texts, Truncation};
use crate::stats::{CacheStats, QueueStats, SessionStats};
use crate::tokenize::{TokenizeError, Tokenized, Tokenizer};

/// Texts with more bytes than this together are tokenised where they block no other request: about a millisecond.
const INLINE_TOKENIZE_BYTES: usize = 4096;
/// The smallest norm that is divided by, as PyTorch's `normalize` has it.
const MIN_NORM: f64 = 1e-12;

/// A loaded model, ready to embed.
#[derive(Debug)]
pub struct Embedder {
    tokenizer: Tokenizer,
    batcher: Batcher,
    model: ModelInfo,
    limits: Limits,
}

/// What there is to say of the loaded model.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// As its users know it.
    pub name: String,
    /// sha256 of the source's weights.
    pub revision: String,
    /// Which of the bundle's models runs.
    pub variant: Variant,
    /// The CPU's instruction set that matters here, for example `avx512-vnni`.
    pub instruction_set: String,
    /// The recipe by which the weights were quantised.
    pub quantization: String,
    /// Against PyTorch, where it was measured.
    pub accuracy: Option<AccuracyRecord>,
    /// How token states become one vector.
    pub pooling: Pooling,
    /// What happens to texts that are too long, where the request does not say.
    pub default_truncation: Truncation,
    /// Of the ONNX Runtime library.
    pub runtime_version: String,
    /// Sessions in the pool.
    pub sessions: usize,
    /// Threads of a session.
    pub threads: usize,
}

/// The vectors of a request.
#[derive(Debug)]
pub struct Embedded {
    /// In the order of the texts.
    pub embeddings: Vec<Embedding>,
    /// Where the time went.
    pub timings: Timings,
}

/// The vector of one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// As many as the request's dimensions.
    pub values: Vec<f32>,
    /// Tokens that the model saw, special tokens included.
    pub token_count: usize,
    /// Whether tokens were dropped.
    pub truncated: bool,
}

/// Where the time of a request went.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields are the stages")]
pub struct Timings {
    pub tokenize: Duration,
    pub queue: Duration,
    pub infer: Duration,
    pub total: Duration,
}

/// How many tokens a text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenCount {
    /// Of the whole text, special tokens included.
    pub tokens: usize,
    /// Whether that is more than the model takes.
    pub exceeds_max: bool,
}

/// Why a request was not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EmbedError {
    /// One of its texts is not acceptable.
    #[error("texts[{index}] {error}")]
    Text {
        /// Its place in the request.
        index: usize,
        /// Why.
        error: TokenizeError,
    },
    /// Its texts found no room, or the model failed.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

impl Embedder {
    /// Puts the parts together.
    pub fn new(tokenizer: Tokenizer, batcher: Batcher, model: ModelInfo, limits: Limits) -> Self {
        Self { tokenizer, batcher, model, limits }
    }

    /// What there is to say of the loaded model.
    pub fn model(&self) -> &ModelInfo {
        &self.model
    }

    /// What a request may ask for.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Tokens of a text that the model sees at most.
    pub fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    /// The queue as it is now, and what was counted since the start.
    pub fn queue_stats(&self) -> QueueStats {
        self.batcher.queue_stats()
    }

    /// The pool as it is now.
    pub fn session_stats(&self) -> SessionStats {
        SessionStats { total: self.model.sessions, busy: self.batcher.busy(), threads: self.model.threads }
    }

    /// The cache as it is now: there is none yet.
    pub fn cache_stats(&self) -> CacheStats {
        CacheStats::default()
    }

    /// Empties the cache, and tells how many entries it had: there is none yet.
    pub fn clear_cache(&self) -> u64 {
        0
    }

    /// Tokenise, infer, finish.
    ///
    /// # Errors
    /// [`EmbedError`].
    pub async fn embed(&self, request: &EmbedRequest) -> Result<Embedded, EmbedError> {
        let started = Instant::now();
        let tokenized = without_blocking(request.texts(), || self.tokenize(request))?;
        let tokenize = started.elapsed();
        let seen: Vec<(usize, bool)> = tokenized.iter().map(|text| (text.ids.len(), text.truncated)).collect();
        let inferred = self.batcher.infer(tokenized.into_iter().map(|text| text.ids).collect()).await?;
        let embeddings = inferred
            .embeddings
            .into_iter()
            .zip(seen)
            .map(|(pooled, (token_count, truncated))| Embedding {
                values: finish(pooled, request),
                token_count,
                truncated,
            })
            .collect();
        let timings = Timings { tokenize, queue: inferred.queue, infer: inferred.infer, total: started.elapsed() };
        Ok(Embedded { embeddings, timings })
    }

    /// Counts the tokens of each text.
    ///
    /// # Errors
    /// [`EmbedError::Text`].
    pub fn count_tokens(&self, texts: &Texts) -> Result<Vec<TokenCount>, EmbedError> {
        without_blocking(texts.as_slice(), || {
            each_text(texts.as_slice(), |text| {
                let tokens = self.tokenizer.count(text)?;
                Ok(TokenCount { tokens, exceeds_max: tokens > self.tokenizer.max_tokens() })
            })
        })
    }

    fn tokenize(&self, request: &EmbedRequest) -> Result<Vec<Tokenized>, EmbedError> {
        each_text(request.texts(), |text| self.tokenizer.tokenize(text, request.truncation))
    }
}

fn each_text<T>(
    texts: &[String],
    mut work: impl FnMut(&str) -> Result<T, TokenizeError>,
) -> Result<Vec<T>, EmbedError> {
    texts
        .iter()
        .enumerate()
        .map(|(index, text)| work(text).map_err(|error| EmbedError::Text { index, error }))
        .collect()
}

/// Long texts are worked on while another thread takes over this one's other requests.
fn without_blocking<T>(texts: &[String], work: impl FnOnce() -> T) -> T {
    let bytes: usize = texts.iter().map(String::len).sum();
    if bytes > INLINE_TOKENIZE_BYTES { tokio::task::block_in_place(work) } else { work() }
}

/// Cuts first, so that a normalised vector has norm 1 at any number of dimensions.
fn finish(mut pooled: Vec<f32>, request: &EmbedRequest) -> Vec<f32> {
    pooled.truncate(request.dimensions());
    if request.normalize {
        let squares: f64 = pooled.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        let scale = 1.0 / squares.sqrt().max(MIN_NORM);
        pooled.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    }
    pooled
}
