//! The options of an embedding call, and its results.

use embedd_proto::{EmbedRequest, Truncation};

/// How texts are embedded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedOptions {
    /// Whether vectors are scaled to L2 norm 1.
    pub normalize: bool,
    /// How many components of each vector to keep, starting with the first. `None` keeps all.
    pub dimensions: Option<u32>,
    /// What happens to a text with more tokens than the model accepts. `Unspecified` is the server's default.
    pub truncation: Truncation,
    /// The name of the model's prompt to put in front of each text. An empty name selects no prompt; `None`, the server's
    /// default.
    pub prompt_name: Option<String>,
    /// Whether to compute vectors even if the server has them in its cache.
    pub skip_cache: bool,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self {
            normalize: true,
            dimensions: None,
            truncation: Truncation::Unspecified,
            prompt_name: None,
            skip_cache: false,
        }
    }
}

impl EmbedOptions {
    pub(crate) fn request(self, texts: Vec<String>) -> EmbedRequest {
        EmbedRequest {
            texts,
            normalize: Some(self.normalize),
            truncation: self.truncation.into(),
            dimensions: self.dimensions,
            encoding: embedd_proto::Encoding::Float.into(),
            skip_cache: self.skip_cache,
            prompt_name: self.prompt_name,
        }
    }
}

/// The embedding of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// The vector, with the model's dimension or the requested one.
    pub values: Vec<f32>,
    /// The number of tokens that the model processed, including special tokens.
    pub token_count: u32,
    /// Whether the text was truncated to that many tokens.
    pub truncated: bool,
    /// Whether the vector came from the cache, or was computed for another request at the same time.
    pub cached: bool,
}

impl From<embedd_proto::Embedding> for Embedding {
    fn from(embedding: embedd_proto::Embedding) -> Self {
        let embedd_proto::Embedding { values, token_count, truncated, cached, packed: _ } = embedding;
        Self { values, token_count, truncated, cached }
    }
}
