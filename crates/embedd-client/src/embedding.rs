//! What is asked for, and what comes back.

use embedd_proto::{EmbedRequest, Truncation};

/// How texts are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedOptions {
    /// Whether vectors are scaled to L2 norm 1.
    pub normalize: bool,
    /// How many components of a vector to keep, from the first; `None`: all of them.
    pub dimensions: Option<u32>,
    /// What becomes of a text of more tokens than the model takes; `Unspecified`: what the server does by default.
    pub truncation: Truncation,
    /// Whether vectors are computed even where the server has them in its cache.
    pub skip_cache: bool,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self { normalize: true, dimensions: None, truncation: Truncation::Unspecified, skip_cache: false }
    }
}

impl EmbedOptions {
    pub(super) fn request(self, texts: Vec<String>) -> EmbedRequest {
        EmbedRequest {
            texts,
            normalize: Some(self.normalize),
            truncation: self.truncation.into(),
            dimensions: self.dimensions,
            encoding: embedd_proto::Encoding::Float.into(),
            skip_cache: self.skip_cache,
        }
    }
}

/// What a model makes of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// The vector: as many components as the model has, or as were asked for.
    pub values: Vec<f32>,
    /// Tokens that the model saw, special tokens included.
    pub token_count: u32,
    /// Whether the text had more tokens than that.
    pub truncated: bool,
    /// Whether the vector was computed before, or for another request at the same time.
    pub cached: bool,
}

impl From<embedd_proto::Embedding> for Embedding {
    fn from(embedding: embedd_proto::Embedding) -> Self {
        let embedd_proto::Embedding { values, token_count, truncated, cached, packed: _ } = embedding;
        Self { values, token_count, truncated, cached }
    }
}
