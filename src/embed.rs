//! The request path, from a validated request to its vectors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::{Admitted, BatchError, BatchLimits, Batcher, Gate, GateFull, QueueLimits, SessionFault, Ticket};
use crate::cache::{CacheKey, CacheScope, CachedEmbedding, EmbeddingCache};
use crate::caller::Caller;
use crate::net::Exhausted;
use crate::quota::QuotaExceeded;
use crate::request::{EmbedRequest, Input, Limits};
use crate::stats::{CacheStats, QueueStats, SessionStats};
use embedd_model::tokenize::{Prompt, TokenizeError, Tokenized, Tokenizer};
use embedd_model::vector::normalize;

mod model_info;
mod timeline;
mod tokens;

pub(crate) use model_info::ModelInfo;
pub(crate) use timeline::{Timeline, Timings};
pub(crate) use tokens::{DecodeFailure, TokenCount};

/// A loaded model, ready to embed.
#[derive(Debug)]
pub(crate) struct Embedder {
    tokenizer: Tokenizer,
    batcher: Batcher,
    /// For tokenizing long texts.
    gate: Gate,
    cache: Option<ModelCache>,
    model: ModelInfo,
    limits: Limits,
}

/// The shared cache, with the key scope of this model.
#[derive(Debug)]
struct ModelCache {
    entries: EmbeddingCache,
    scope: CacheScope,
}

/// The result of a request.
#[derive(Debug, Default)]
pub(crate) struct Embedded {
    /// In the order of the texts.
    pub embeddings: Vec<Embedding>,
    pub timings: Timings,
    pub timeline: Timeline,
}

/// The vector of one text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Embedding {
    /// As many components as the request's dimensions.
    pub values: Vec<f32>,
    /// Tokens that the model processed, including special tokens.
    pub token_count: usize,
    /// Whether tokens were dropped.
    pub truncated: bool,
    /// Whether the vector came from the cache or from a concurrent request for the same text.
    pub cached: bool,
}

#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum EmbedError {
    /// One of the texts cannot be embedded.
    #[error("texts[{index}] {error}")]
    Text {
        /// Its position in the request.
        index: usize,
        error: TokenizeError,
    },
    /// The queue was full, or the model failed.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Too many long texts are being tokenized.
    #[error(transparent)]
    Gate(#[from] GateFull),
    /// The caller's token allows no more for now.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// There is no memory for the reply.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

impl Embedded {
    /// Adds the result of the next part of the same request.
    pub(crate) fn append(&mut self, part: Self) {
        self.embeddings.extend(part.embeddings);
        self.timings += part.timings;
        self.timeline = part.timeline;
    }
}

impl EmbedError {
    /// The error of a part of a request that begins with the text of this index.
    pub(crate) fn in_part(self, first: usize) -> Self {
        match self {
            Self::Text { index, error } => Self::Text { index: first + index, error },
            other => other,
        }
    }
}

impl Embedder {
    /// Without a cache, every text is computed.
    pub(crate) fn new(
        tokenizer: Tokenizer,
        batcher: Batcher,
        gate: Gate,
        cache: Option<EmbeddingCache>,
        model: ModelInfo,
        limits: Limits,
    ) -> Self {
        let cache = cache.map(|entries| ModelCache { entries, scope: cache_scope(&model, &tokenizer) });
        Self { tokenizer, batcher, gate, cache, model, limits }
    }

    pub(crate) fn model(&self) -> &ModelInfo {
        &self.model
    }

    /// The limits of a request.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The maximum number of tokens per text that the model processes.
    pub(crate) fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    pub(crate) fn batch_limits(&self) -> BatchLimits {
        self.batcher.batch_limits()
    }

    pub(crate) fn queue_limits(&self) -> QueueLimits {
        self.batcher.queue_limits()
    }

    /// The current state of the queue, and its counters since the start.
    pub(crate) fn queue_stats(&self) -> QueueStats {
        self.batcher.queue_stats()
    }

    /// The current state of the session pool.
    pub(crate) fn session_stats(&self) -> SessionStats {
        SessionStats { total: self.model.sessions, busy: self.batcher.busy(), threads: self.model.threads }
    }

    /// Whether the tokens of the text, with the model's own default prompt, may differ from those in PyTorch.
    pub(crate) fn differs_from_pytorch(&self, text: &str) -> bool {
        match self.model.prompts.choose(&self.model.own_default_prompt) {
            Ok(Some(prompt)) => self.tokenizer.differs_from_pytorch(&format!("{}{text}", prompt.text())),
            _ => self.tokenizer.differs_from_pytorch(text),
        }
    }

    /// Why a session does not work; see [`Batcher::fault`].
    pub(crate) fn fault(&self, limit: Duration) -> Option<SessionFault> {
        self.batcher.fault(limit)
    }

    /// The current state of the cache; all zero if there is none.
    pub(crate) async fn cache_stats(&self) -> CacheStats {
        match &self.cache {
            Some(cache) => cache.entries.stats().await,
            None => CacheStats::default(),
        }
    }

    /// Empties the cache and returns the number of removed entries.
    pub(crate) async fn clear_cache(&self) -> u64 {
        match &self.cache {
            Some(cache) => cache.entries.clear().await,
            None => 0,
        }
    }

    /// Looks texts up in the cache, tokenizes and infers the missing ones, and finishes the vectors.
    ///
    /// If the future is dropped, queued texts are not computed unless another request waits for them.
    ///
    /// # Errors
    /// [`EmbedError`].
    pub(crate) async fn embed(&self, request: &EmbedRequest, caller: &Caller) -> Result<Embedded, EmbedError> {
        let start = Instant::now();
        let mut lookups = self.look_up(request, caller).await;
        let missing: Vec<usize> = (0..lookups.len()).filter(|&index| lookups[index].embedding.is_none()).collect();
        let mut timeline = Timeline::default();
        if !missing.is_empty() {
            // Before anything is done that costs more than a lookup.
            let admitted = self.admit(caller, &lookups, &missing).await?;
            let tokenize_start = Instant::now();
            let tokenized = self.tokenize(request, &missing, caller).await?;
            timeline.tokenized_since(tokenize_start);
            let missing = missing.into_iter().zip(tokenized).collect();
            self.compute(admitted, &mut lookups, missing, &mut timeline).await?;
        }
        let embeddings = lookups.into_iter().filter_map(|lookup| lookup.finish(request)).collect();
        let timings = timeline.end(start);
        Ok(Embedded { embeddings, timings, timeline })
    }

    async fn look_up(&self, request: &EmbedRequest, caller: &Caller) -> Vec<Lookup> {
        let Some(cache) = self.cache.as_ref().filter(|_| !request.options().skip_cache) else {
            return request.inputs().iter().map(|_| Lookup::default()).collect();
        };
        // The options that change a pooled vector.
        let mut options = vec![request.options().truncation.truncation() as u8];
        if let Some((kind, digest)) = cache.entries.scope_of(caller) {
            options.push(kind);
            options.extend(digest);
        }
        let prompt = request.prompt().map_or("", Prompt::text);
        let mut lookups = Vec::with_capacity(request.inputs().len());
        for input in request.inputs() {
            let key = match input {
                Input::Text(text) => cache.scope.key(&options, prompt, text),
                Input::TokenIds(ids) => cache.scope.key_of_ids(&options, prompt, ids),
            };
            let embedding = cache.entries.get(&key).await;
            lookups.push(Lookup { key: Some(key), cached: embedding.is_some(), embedding });
        }
        lookups
    }

    /// Asks the queue for places for the texts at the indices `missing`.
    async fn admit(&self, caller: &Caller, lookups: &[Lookup], missing: &[usize]) -> Result<Admitted, BatchError> {
        let keys: Vec<_> = missing.iter().map(|&index| lookups[index].key.map(|key| key.0)).collect();
        self.batcher.admit(caller, &keys).await
    }

    /// Computes the texts that the cache did not have; `missing` are their indices in the request and their tokens.
    async fn compute(
        &self,
        mut admitted: Admitted,
        lookups: &mut [Lookup],
        mut missing: Vec<(usize, Tokenized)>,
        timeline: &mut Timeline,
    ) -> Result<(), EmbedError> {
        // For engines that pad: texts of similar length in one batch need little padding.
        missing.sort_by_key(|(_, text)| text.ids.len());
        let mut queued = Vec::with_capacity(missing.len());
        for (index, text) in missing {
            let lookup = &mut lookups[index];
            if !self.look_up_again(lookup).await {
                queued.push((index, Queued::new(&mut admitted, text, lookup.key)?));
            }
        }
        drop(admitted);
        for (index, text) in queued {
            let lookup = &mut lookups[index];
            let (embedding, shared) = text.infer(timeline, self.cache.as_ref().zip(lookup.key)).await?;
            *lookup = Lookup { key: lookup.key, embedding: Some(embedding), cached: shared };
        }
        Ok(())
    }

    /// Whether another request has computed the text since the first lookup.
    async fn look_up_again(&self, lookup: &mut Lookup) -> bool {
        if let Some((cache, key)) = self.cache.as_ref().zip(lookup.key) {
            lookup.embedding = cache.entries.peek(&key).await;
            lookup.cached = lookup.embedding.is_some();
        }
        lookup.cached
    }

    /// Tokenizes the texts at the indices `missing`.
    async fn tokenize<'r>(
        &'r self,
        request: &'r EmbedRequest,
        missing: &[usize],
        caller: &Caller,
    ) -> Result<Vec<Tokenized>, EmbedError> {
        let inputs: Vec<_> = missing.iter().map(|&index| (index, &request.inputs()[index])).collect();
        let truncation = request.options().truncation.truncation();
        let prompt = request.prompt();
        let prompt_bytes = prompt.map_or(0, |prompt| prompt.text().len());
        let bytes = inputs.iter().map(|(_, input)| input.bytes() + prompt_bytes).sum();
        let start = |input: &'r Input| match input {
            Input::Text(text) => self.tokenizer.start(text, prompt, truncation),
            Input::TokenIds(ids) => self.tokenizer.start_ids(ids, prompt, truncation),
        };
        tokens::each_text(&self.gate, caller, inputs, bytes, start).await
    }
}

/// Everything that a pooled vector depends on, except for the text and the request's options.
fn cache_scope(model: &ModelInfo, tokenizer: &Tokenizer) -> CacheScope {
    CacheScope::new(&[
        model.fingerprint.as_bytes(),
        model.variant.to_string().as_bytes(),
        model.instruction_set.as_bytes(),
        &tokenizer.max_tokens().to_le_bytes(),
        &[tokenizer.special_tokens() as u8],
    ])
}

/// The cache's answer for one text, completed once its vector is computed.
#[derive(Debug, Default)]
struct Lookup {
    /// `None` if the cache must not be used.
    key: Option<CacheKey>,
    embedding: Option<Arc<CachedEmbedding>>,
    cached: bool,
}

impl Lookup {
    /// Cuts to the request's dimensions before normalizing, so that the result has norm 1.
    fn finish(self, request: &EmbedRequest) -> Option<Embedding> {
        let CachedEmbedding { pooled, token_count, truncated } = &*self.embedding?;
        let mut values = pooled[..request.dimensions()].to_vec();
        if request.options().normalize {
            normalize(&mut values);
        }
        Some(Embedding { values, token_count: *token_count, truncated: *truncated, cached: self.cached })
    }
}

/// A text in the queue.
struct Queued {
    ticket: Ticket,
    token_count: usize,
    truncated: bool,
}

impl Queued {
    fn new(admitted: &mut Admitted, text: Tokenized, key: Option<CacheKey>) -> Result<Self, BatchError> {
        let token_count = text.ids.len();
        let ticket = admitted.queue(text.ids, key.map(|key| key.0))?;
        Ok(Self { ticket, token_count, truncated: text.truncated })
    }

    /// Waits for the vector and puts it into the cache. Returns whether another request computed it.
    async fn infer(
        mut self,
        timeline: &mut Timeline,
        cache: Option<(&ModelCache, CacheKey)>,
    ) -> Result<(Arc<CachedEmbedding>, bool), BatchError> {
        let (inferred, shared) = self.ticket.wait().await?;
        let Self { token_count, truncated, .. } = self;
        if !shared {
            timeline.inferred(&inferred);
        }
        let embedding = Arc::new(CachedEmbedding { pooled: inferred.embedding, token_count, truncated });
        if let Some((cache, key)) = cache.filter(|_| !shared) {
            cache.entries.insert(key, Arc::clone(&embedding)).await;
        }
        Ok((embedding, shared))
    }
}
