//! The request path, from a checked request to its vectors.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::future::try_join_all;

use crate::batch::{Admitted, BatchError, BatchLimits, Batcher, QueueLimits};
use crate::cache::{CacheKey, CacheScope, CachedEmbedding, EmbeddingCache};
use crate::request::{EmbedRequest, Limits};
use crate::stats::{CacheStats, QueueStats, SessionStats};
use embedd_model::bundle::{AccuracyRecord, Pooling, Variant};
use embedd_model::tokenize::Truncation;
use embedd_model::tokenize::{TokenizeError, Tokenized, Tokenizer};
use embedd_model::vector::normalize;

mod course;
mod names;
mod tokens;

pub(crate) use course::{Course, Timings};
pub(crate) use names::NoSuchModel;
pub(crate) use tokens::TokenCount;

/// Texts with more bytes than this together are tokenised where they block no other request: about a millisecond.
const INLINE_TOKENIZE_BYTES: usize = 4096;

/// A loaded model, ready to embed.
#[derive(Debug)]
pub(crate) struct Embedder {
    tokenizer: Tokenizer,
    batcher: Batcher,
    cache: Option<ModelCache>,
    model: ModelInfo,
    limits: Limits,
}

/// The cache, and the keys under which this model's vectors are in it.
#[derive(Debug)]
struct ModelCache {
    entries: EmbeddingCache,
    scope: CacheScope,
}

/// What there is to say of the loaded model.
#[derive(Debug, Clone)]
pub(crate) struct ModelInfo {
    /// As its users know it.
    pub name: String,
    /// Of the bundle: other bytes, another fingerprint.
    pub fingerprint: String,
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
pub(crate) struct Embedded {
    /// In the order of the texts.
    pub embeddings: Vec<Embedding>,
    /// Where the time went.
    pub timings: Timings,
    /// When that was.
    pub course: Course,
}

/// The vector of one text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Embedding {
    /// As many as the request's dimensions.
    pub values: Vec<f32>,
    /// Tokens that the model saw, special tokens included.
    pub token_count: usize,
    /// Whether tokens were dropped.
    pub truncated: bool,
    /// Whether the vector was in the cache, or computed for another request meanwhile.
    pub cached: bool,
}

/// Why a request was not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum EmbedError {
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
    /// Puts the parts together; without a cache, every text is computed.
    pub(crate) fn new(
        tokenizer: Tokenizer,
        batcher: Batcher,
        cache: Option<EmbeddingCache>,
        model: ModelInfo,
        limits: Limits,
    ) -> Self {
        let cache = cache.map(|entries| ModelCache { entries, scope: cache_scope(&model, tokenizer.max_tokens()) });
        Self { tokenizer, batcher, cache, model, limits }
    }

    /// What there is to say of the loaded model.
    pub(crate) fn model(&self) -> &ModelInfo {
        &self.model
    }

    /// What a request may ask for.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Tokens of a text that the model sees at most.
    pub(crate) fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    /// How much a batch holds.
    pub(crate) fn batch_limits(&self) -> BatchLimits {
        self.batcher.batch_limits()
    }

    /// How much may wait.
    pub(crate) fn queue_limits(&self) -> QueueLimits {
        self.batcher.queue_limits()
    }

    /// The queue as it is now, and what was counted since the start.
    pub(crate) fn queue_stats(&self) -> QueueStats {
        self.batcher.queue_stats()
    }

    /// The pool as it is now.
    pub(crate) fn session_stats(&self) -> SessionStats {
        SessionStats { total: self.model.sessions, busy: self.batcher.busy(), threads: self.model.threads }
    }

    /// The cache as it is now; all zero where there is none.
    pub(crate) async fn cache_stats(&self) -> CacheStats {
        match &self.cache {
            Some(cache) => cache.entries.stats().await,
            None => CacheStats::default(),
        }
    }

    /// Empties the cache, and tells how many entries it had.
    pub(crate) async fn clear_cache(&self) -> u64 {
        match &self.cache {
            Some(cache) => cache.entries.clear().await,
            None => 0,
        }
    }

    /// Look up, tokenise what was not found, infer, finish.
    ///
    /// Dropped before it is done, what still waits is not computed, unless another request waits for it, too.
    ///
    /// # Errors
    /// [`EmbedError`].
    pub(crate) async fn embed(&self, request: &EmbedRequest) -> Result<Embedded, EmbedError> {
        let started = Instant::now();
        let mut found = self.look_up(request).await;
        let missing: Vec<usize> = (0..found.len()).filter(|&index| found[index].embedding.is_none()).collect();
        let mut course = Course::default();
        if !missing.is_empty() {
            let tokenizing = Instant::now();
            let tokenized = without_blocking(request.texts(), || self.tokenize(request, &missing))?;
            course.tokenized_since(tokenizing);
            self.compute(&mut found, missing.into_iter().zip(tokenized).collect(), &mut course).await?;
        }
        let embeddings = found.into_iter().filter_map(|found| found.finish(request)).collect();
        let timings = course.end(started);
        Ok(Embedded { embeddings, timings, course })
    }

    /// What the cache has of the request's texts.
    async fn look_up(&self, request: &EmbedRequest) -> Vec<Found> {
        let Some(cache) = self.cache.as_ref().filter(|_| !request.options().skip_cache) else {
            return request.texts().iter().map(|_| Found::default()).collect();
        };
        // What a request may choose and a pooled vector depends on.
        let options = [request.options().truncation as u8];
        let mut found = Vec::with_capacity(request.texts().len());
        for text in request.texts() {
            let key = cache.scope.key(&options, text);
            let embedding = cache.entries.get(&key).await;
            found.push(Found { key: Some(key), cached: embedding.is_some(), embedding });
        }
        found
    }

    /// Fills in what was not found; `missing`: places in the request, and the texts there.
    async fn compute(
        &self,
        found: &mut [Found],
        mut missing: Vec<(usize, Tokenized)>,
        course: &mut Course,
    ) -> Result<(), EmbedError> {
        let admitted = self.batcher.admit(missing.len())?;
        // Neighbours of like length leave little padding, where the engine pads.
        missing.sort_by_key(|(_, text)| text.ids.len());
        let course = Mutex::new(course);
        let computing = missing.into_iter().map(|(index, text)| {
            let (key, infer) = (found[index].key, infer(&admitted, text, &course));
            async move {
                let (embedding, cached) = match (&self.cache, key) {
                    (Some(cache), Some(key)) => cache.entries.get_or_compute(key, infer).await?,
                    _ => (Arc::new(infer.await?), false),
                };
                Ok::<_, BatchError>((index, Found { key, embedding: Some(embedding), cached }))
            }
        });
        for (index, computed) in try_join_all(computing.collect::<Vec<_>>()).await? {
            found[index] = computed;
        }
        Ok(())
    }

    /// The request's texts at the places `missing`.
    fn tokenize(&self, request: &EmbedRequest, missing: &[usize]) -> Result<Vec<Tokenized>, EmbedError> {
        let texts = missing.iter().map(|&index| (index, request.texts()[index].as_str()));
        each_text(texts, |text| self.tokenizer.tokenize(text, request.options().truncation))
    }
}

/// Everything but the text and the request's options that a pooled vector depends on.
fn cache_scope(model: &ModelInfo, max_tokens: usize) -> CacheScope {
    CacheScope::new(&[
        model.fingerprint.as_bytes(),
        model.variant.to_string().as_bytes(),
        model.instruction_set.as_bytes(),
        &max_tokens.to_le_bytes(),
    ])
}

/// A text of a request, and its vector once that is there.
#[derive(Debug, Default)]
struct Found {
    /// Where the cache may be used.
    key: Option<CacheKey>,
    embedding: Option<Arc<CachedEmbedding>>,
    cached: bool,
}

impl Found {
    /// Cuts first, so that a normalised vector has norm 1 at any number of dimensions.
    fn finish(self, request: &EmbedRequest) -> Option<Embedding> {
        let CachedEmbedding { pooled, token_count, truncated } = &*self.embedding?;
        let mut values = pooled[..request.dimensions()].to_vec();
        if request.options().normalize {
            normalize(&mut values);
        }
        Some(Embedding { values, token_count: *token_count, truncated: *truncated, cached: self.cached })
    }
}

async fn infer(
    admitted: &Admitted,
    text: Tokenized,
    course: &Mutex<&mut Course>,
) -> Result<CachedEmbedding, BatchError> {
    let (token_count, truncated) = (text.ids.len(), text.truncated);
    let inferred = admitted.infer(text.ids).await?;
    course.lock().unwrap_or_else(PoisonError::into_inner).inferred(&inferred);
    Ok(CachedEmbedding { pooled: inferred.embedding.into(), token_count, truncated })
}

fn each_text<'t, T>(
    texts: impl Iterator<Item = (usize, &'t str)>,
    mut work: impl FnMut(&str) -> Result<T, TokenizeError>,
) -> Result<Vec<T>, EmbedError> {
    texts.map(|(index, text)| work(text).map_err(|error| EmbedError::Text { index, error })).collect()
}

/// Long texts are worked on beside other requests.
fn without_blocking<T>(texts: &[String], work: impl FnOnce() -> T) -> T {
    beside_others(texts.iter().map(String::len).sum::<usize>() > INLINE_TOKENIZE_BYTES, work)
}

/// What takes long is done while another thread takes over this one's other requests.
pub(crate) fn beside_others<T>(takes_long: bool, work: impl FnOnce() -> T) -> T {
    if takes_long { tokio::task::block_in_place(work) } else { work() }
}
