//! The one table from errors to gRPC statuses.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::admin::{LoadFailure, NoReference, ProbeError, ReloadError};
use crate::batch::BatchError;
use crate::embed::EmbedError;
use crate::request::Violations;
use crate::tokenize::TokenizeError;

/// When a caller may try again after the queue was full: a few batches later.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// INVALID_ARGUMENT with every field that is wrong.
pub(super) fn invalid(violations: &Violations) -> Status {
    let fields: Vec<FieldViolation> = violations
        .iter()
        .map(|violation| FieldViolation::new(violation.field.as_str(), violation.description.as_str()))
        .collect();
    let message: Vec<String> =
        violations.iter().map(|violation| format!("{} {}", violation.field, violation.description)).collect();
    let details = ErrorDetails::with_bad_request(fields);
    Status::with_error_details(Code::InvalidArgument, message.join("; "), details)
}

/// UNAVAILABLE: there is no model yet.
pub(super) fn loading() -> Status {
    Status::unavailable("the model is being loaded; health says SERVING when it is ready")
}

/// UNAVAILABLE: what takes long is cut short.
pub(super) fn stopping() -> Status {
    Status::unavailable("the server is stopping")
}

/// FAILED_PRECONDITION: one at a time.
pub(super) fn benchmark_under_way() -> Status {
    Status::failed_precondition("another benchmark is under way; wait for its end")
}

pub(super) fn from_no_reference(error: &NoReference) -> Status {
    Status::failed_precondition(error.to_string())
}

/// Of texts of the server's own: none of their faults is an argument's.
pub(super) fn from_probe_error(error: &ProbeError) -> Status {
    match error {
        ProbeError::Embed(error) => from_embed_error(error),
        ProbeError::Busy => {
            let details = ErrorDetails::with_retry_info(Some(RETRY_DELAY));
            Status::with_error_details(Code::ResourceExhausted, error.to_string(), details)
        }
        ProbeError::NoText(_) => Status::failed_precondition(error.to_string()),
    }
}

pub(super) fn from_reload_error(error: &ReloadError) -> Status {
    match error {
        ReloadError::NotLoaded => loading(),
        ReloadError::Load(LoadFailure::NoSuchFolder(_)) => Status::not_found(error.to_string()),
        ReloadError::Load(LoadFailure::NotABundle(reason)) => {
            let details = ErrorDetails::with_bad_request_violation("bundle", reason.as_str());
            Status::with_error_details(Code::InvalidArgument, error.to_string(), details)
        }
        ReloadError::UnderWay | ReloadError::Inaccurate { .. } | ReloadError::Load(LoadFailure::Unfit(_)) => {
            Status::failed_precondition(error.to_string())
        }
        ReloadError::Load(LoadFailure::Failed(_)) | ReloadError::Cut(_) => Status::internal(error.to_string()),
        ReloadError::Probe(error) => from_probe_error(error),
    }
}

pub(super) fn from_embed_error(error: &EmbedError) -> Status {
    match error {
        EmbedError::Text { index, error: reason @ TokenizeError::TooLong { .. } } => {
            let mut violations = Violations::default();
            violations.add(format!("texts[{index}]"), reason.to_string());
            invalid(&violations)
        }
        EmbedError::Text { error: TokenizeError::Failed(_), .. } => Status::internal(error.to_string()),
        EmbedError::Batch(BatchError::QueueFull { .. }) => {
            let details = ErrorDetails::with_retry_info(Some(RETRY_DELAY));
            Status::with_error_details(Code::ResourceExhausted, error.to_string(), details)
        }
        EmbedError::Batch(BatchError::Closed) => Status::unavailable(error.to_string()),
        EmbedError::Batch(BatchError::Inference(_)) => Status::internal(error.to_string()),
    }
}
