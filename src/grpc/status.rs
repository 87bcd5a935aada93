//! The one table from errors to gRPC statuses.

use std::time::Duration;

use prost::Message as _;
use tonic::codegen::http::HeaderMap;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt, pb};

use crate::admin::{LoadFailure, NoReference, ProbeError, ReloadError};
use crate::batch::BatchError;
use crate::embed::{EmbedError, NoSuchModel};
use crate::request::{TextField, Violations, error_text};
use embedd_model::tokenize::{DecodeError, TokenizeError};
use embedd_proto::request_id::RequestId;

/// The trailer by which a server tells clients that retry by themselves when to (gRPC's retry design, A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// When to try again what callers have left no room for.
const PROBE_RETRY_DELAY: Duration = Duration::from_secs(10);

/// INVALID_ARGUMENT with the fields that are wrong.
pub(super) fn invalid(violations: &Violations) -> Status {
    let fields: Vec<FieldViolation> = violations
        .iter()
        .map(|violation| FieldViolation::new(violation.field.as_str(), violation.description.as_str()))
        .collect();
    let details = ErrorDetails::with_bad_request(fields);
    Status::with_error_details(Code::InvalidArgument, violations.to_string(), details)
}

/// UNAVAILABLE: there is no model yet.
pub(super) fn loading() -> Status {
    Status::unavailable("the model is being loaded; health says SERVING when it is ready")
}

/// DEADLINE_EXCEEDED.
pub(super) fn late() -> Status {
    Status::deadline_exceeded("the time that the caller gave (grpc-timeout) has passed")
}

/// UNAVAILABLE: what takes long is cut short, and a stream ends before its caller has ended it.
pub(super) fn stopping() -> Status {
    Status::unavailable("the server is stopping; what has no reply yet was not done")
}

/// INTERNAL: there is a bug. What it is stands in the log, not in the reply.
pub(super) fn panicked() -> Status {
    Status::internal("the server failed on this request (a panic, which its log describes); other requests are fine")
}

/// RESOURCE_EXHAUSTED, and when to come again.
fn busy(message: String, retry_after: Duration) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(PUSHBACK, MetadataValue::from(retry_after.as_millis() as u64));
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    Status::with_error_details_and_metadata(Code::ResourceExhausted, message, details, metadata)
}

/// The status as a message, its details included.
pub(super) fn to_message(status: &Status) -> pb::Status {
    match pb::Status::decode(status.details()) {
        Ok(message) if message.code != 0 => message,
        _ => pb::Status { code: status.code().into(), message: status.message().to_owned(), details: Vec::new() },
    }
}

/// Adds the request's id to the error that headers or trailers tell, where it has details.
pub(super) fn add_request_info(headers: &mut HeaderMap, id: &RequestId) {
    let Some(status) = Status::from_header_map(headers).filter(|status| !status.details().is_empty()) else { return };
    let mut details = status.get_error_details();
    details.set_request_info(id.as_str(), "");
    // It takes the place of what stands there, and that was a valid header.
    let _ = Status::with_error_details(status.code(), status.message(), details).add_header(headers);
}

/// FAILED_PRECONDITION: one at a time.
pub(super) fn benchmark_under_way() -> Status {
    Status::failed_precondition("another benchmark is under way; wait for its end")
}

pub(super) fn from_no_reference(error: &NoReference) -> Status {
    Status::failed_precondition(error_text(error))
}

/// Of texts of the server's own: none of their faults is an argument's.
pub(super) fn from_probe_error(error: &ProbeError) -> Status {
    match error {
        ProbeError::Embed(error) => from_embed_error(error, TextField::default()),
        ProbeError::Busy => busy(error_text(error), PROBE_RETRY_DELAY),
        ProbeError::NoText(_) => Status::failed_precondition(error_text(error)),
    }
}

pub(super) fn from_reload_error(error: &ReloadError) -> Status {
    match error {
        ReloadError::NotLoaded => loading(),
        ReloadError::Load(LoadFailure::NoSuchFolder(_)) => Status::not_found(error_text(error)),
        ReloadError::Load(LoadFailure::NotABundle(reason)) => {
            let details = ErrorDetails::with_bad_request_violation("bundle", error_text(reason));
            Status::with_error_details(Code::InvalidArgument, error_text(error), details)
        }
        ReloadError::InProgress | ReloadError::Inaccurate { .. } | ReloadError::Load(LoadFailure::Unfit(_)) => {
            Status::failed_precondition(error_text(error))
        }
        ReloadError::Load(LoadFailure::Failed(_)) | ReloadError::Interrupted(_) => Status::internal(error_text(error)),
        ReloadError::Probe(error) => from_probe_error(error),
    }
}

/// Of a request whose protocol names its texts so.
pub(super) fn from_embed_error(error: &EmbedError, texts: TextField) -> Status {
    match error {
        EmbedError::Text { index, error: reason @ TokenizeError::TooLong { .. } } => {
            let mut violations = Violations::of(texts);
            violations.add(texts.one(*index), reason.to_string());
            invalid(&violations)
        }
        EmbedError::Text { error: TokenizeError::Failed(_), .. } => Status::internal(error_text(error)),
        EmbedError::Batch(BatchError::QueueFull { retry_after, .. }) => busy(error_text(error), *retry_after),
        EmbedError::Batch(BatchError::Closed) => Status::unavailable(error_text(error)),
        EmbedError::Batch(BatchError::Inference(_)) => Status::internal(error_text(error)),
    }
}

pub(super) fn from_decode_error(error: &DecodeError) -> Status {
    Status::internal(error_text(error))
}

/// NOT_FOUND: the one model that there is has another name.
pub(super) fn from_no_such_model(error: &NoSuchModel) -> Status {
    Status::not_found(error_text(error))
}

/// NOT_FOUND: it has one version.
pub(super) fn no_such_version(version: &str, model: &str) -> Status {
    Status::not_found(format!("there is no version {version} of {model}; this server has version `1`"))
}

/// UNIMPLEMENTED: a call of a protocol that the model or its engine cannot answer.
pub(super) fn cannot(reason: &'static str) -> Status {
    Status::unimplemented(reason)
}

#[cfg(test)]
mod tests;
