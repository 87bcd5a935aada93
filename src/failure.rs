//! Failed requests, classified by what their callers can do about them. The error tables of the protocols
//! (`grpc/status.rs`, `http/openai/error.rs`) map these classes to their own codes.

use std::time::Duration;

use crate::batch::{BatchError, GateFull};
use crate::embed::EmbedError;
use crate::net::Exhausted;
use crate::request::{TextField, Violations, error_text};
use embedd_common::jitter::jittered;
use embedd_model::tokenize::TokenizeError;

/// The retry delay when too many messages are in memory. They are there for as long as their calls take.
const EXHAUSTED_RETRY_DELAY: Duration = Duration::from_millis(200);

const EXHAUSTED_JITTER: f64 = 0.2;

#[derive(Debug)]
pub(crate) enum Failure {
    /// The request is invalid; the same one would fail again.
    Invalid(Violations),
    /// The queue or the memory is full; the same request may succeed after the delay.
    Overloaded { message: String, retry_after: Duration },
    /// This server accepts no requests; another one may.
    Unavailable(String),
    /// The fault is the server's.
    Internal(String),
}

impl Failure {
    /// Classifies the error of a request whose texts are in the field `texts`.
    pub(crate) fn from_embed_error(error: &EmbedError, texts: TextField) -> Self {
        match error {
            EmbedError::Text {
                index,
                error:
                    reason @ (TokenizeError::TooLong { .. } | TokenizeError::UnknownId { .. } | TokenizeError::UnmarkedIds),
            } => {
                let mut violations = Violations::of(texts);
                violations.add(texts.one(*index), reason.to_string());
                Self::Invalid(violations)
            }
            EmbedError::Batch(BatchError::QueueFull { retry_after, .. }) => {
                Self::Overloaded { message: error_text(error), retry_after: *retry_after }
            }
            EmbedError::Exhausted(error) => Self::exhausted(*error),
            EmbedError::Quota(exceeded) => {
                Self::Overloaded { message: error_text(error), retry_after: exceeded.retry_after }
            }
            EmbedError::Gate(GateFull { retry_after }) => {
                Self::Overloaded { message: error_text(error), retry_after: *retry_after }
            }
            EmbedError::Batch(BatchError::Closed) => Self::Unavailable(error_text(error)),
            EmbedError::Text { error: TokenizeError::Failed(_), .. } | EmbedError::Batch(BatchError::Inference(_)) => {
                Self::Internal(error_text(error))
            }
        }
    }

    pub(crate) fn exhausted(error: Exhausted) -> Self {
        let retry_after = jittered(EXHAUSTED_RETRY_DELAY, EXHAUSTED_JITTER, fastrand::f64());
        Self::Overloaded { message: error.to_string(), retry_after }
    }

    /// A bug. The log describes it, the reply does not.
    pub(crate) fn panicked() -> Self {
        Self::Internal(
            "the server panicked on this request (its log has details); other requests are unaffected".into(),
        )
    }
}
