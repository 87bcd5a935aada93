//! The one table from errors to gRPC statuses.

use std::time::Duration;

use prost::Message as _;
use tonic::codegen::http::HeaderMap;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt, pb};

use crate::admin::{LoadFailure, NoReference, ProbeError, ReloadError};
use crate::embed::{DecodeFailure, EmbedError};
use crate::failure::Failure;
use crate::net::Exhausted;
use crate::request::{TextField, Violations, error_text};
use embedd_proto::request_id::RequestId;

/// The trailer that tells gRPC's client libraries when to retry (gRPC proposal A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The retry delay for an admin operation that found the queue full of callers' requests.
const PROBE_RETRY_DELAY: Duration = Duration::from_secs(10);

/// INVALID_ARGUMENT with the invalid fields.
pub(super) fn invalid(violations: &Violations) -> Status {
    let fields: Vec<FieldViolation> = violations
        .iter()
        .map(|violation| FieldViolation::new(violation.field.as_str(), violation.description.as_str()))
        .collect();
    let details = ErrorDetails::with_bad_request(fields);
    Status::with_error_details(Code::InvalidArgument, violations.to_string(), details)
}

/// UNAVAILABLE until the first model is loaded.
pub(super) fn loading() -> Status {
    Status::unavailable("the model is being loaded; health reports SERVING when it is ready")
}

pub(super) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the caller's deadline (grpc-timeout) has expired")
}

/// UNAVAILABLE for long operations and streams that the server cuts short.
pub(super) fn stopping() -> Status {
    Status::unavailable("the server is stopping; unanswered requests were not processed")
}

/// RESOURCE_EXHAUSTED: the messages of callers use up the memory for them.
pub(super) fn exhausted(error: Exhausted) -> Status {
    from_failure(Failure::exhausted(error))
}

/// DEADLINE_EXCEEDED, because a message that is not complete cannot be processed in time.
pub(super) fn message_too_slow(timeout: Duration) -> Status {
    Status::deadline_exceeded(format!("the message did not arrive completely within {timeout:?}"))
}

/// INVALID_ARGUMENT, as for all messages that cannot be decoded.
pub(super) fn incomplete_message() -> Status {
    Status::invalid_argument("the request ends inside a message")
}

/// INVALID_ARGUMENT.
pub(super) fn no_message() -> Status {
    Status::invalid_argument("the request has no message")
}

/// INVALID_ARGUMENT.
pub(super) fn compressed_message() -> Status {
    Status::invalid_argument(
        "the message is marked as compressed, but the call has no grpc-encoding; send it uncompressed",
    )
}

/// INVALID_ARGUMENT, for a compressed message.
pub(super) fn message_too_large(max: usize) -> Status {
    Status::invalid_argument(format!("the message has more than the maximum of {max} bytes when it is decompressed"))
}

/// INVALID_ARGUMENT.
pub(super) fn damaged_message() -> Status {
    Status::invalid_argument("the message cannot be decompressed: it is not valid gzip")
}

/// INVALID_ARGUMENT, for the services of other crates, whose codecs blame the server (INTERNAL).
pub(super) fn undecodable() -> Status {
    Status::invalid_argument("the message cannot be decoded")
}

pub(super) fn panicked() -> Status {
    from_failure(Failure::panicked())
}

/// RESOURCE_EXHAUSTED with a retry delay.
fn busy(message: String, retry_after: Duration) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(PUSHBACK, MetadataValue::from(retry_after.as_millis() as u64));
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    Status::with_error_details_and_metadata(Code::ResourceExhausted, message, details, metadata)
}

/// The status as a message, including its details.
pub(super) fn to_message(status: &Status) -> pb::Status {
    match pb::Status::decode(status.details()) {
        Ok(message) if message.code != 0 => message,
        _ => pb::Status { code: status.code().into(), message: status.message().to_owned(), details: Vec::new() },
    }
}

/// Adds the request id to the status in headers or trailers, if it has details.
pub(super) fn add_request_info(headers: &mut HeaderMap, id: &RequestId) {
    let Some(status) = Status::from_header_map(headers).filter(|status| !status.details().is_empty()) else { return };
    let mut details = status.get_error_details();
    details.set_request_info(id.as_str(), "");
    // It replaces a valid status, so it cannot fail.
    let _ = Status::with_error_details(status.code(), status.message(), details).add_header(headers);
}

/// FAILED_PRECONDITION, since only one benchmark may run at a time.
pub(super) fn benchmark_running() -> Status {
    Status::failed_precondition("another benchmark is running; wait until it has finished")
}

pub(super) fn from_no_reference(error: &NoReference) -> Status {
    Status::failed_precondition(error_text(error))
}

/// For operations on the server's own texts, whose errors are not caused by an argument.
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
        ReloadError::Load(LoadFailure::NotFound) => Status::not_found(error_text(error)),
        ReloadError::TimedOut(_) => Status::deadline_exceeded(error_text(error)),
        ReloadError::Load(LoadFailure::NotABundle(reason)) => {
            let details = ErrorDetails::with_bad_request_violation("bundle", error_text(reason));
            Status::with_error_details(Code::InvalidArgument, error_text(error), details)
        }
        ReloadError::InProgress
        | ReloadError::Overdue
        | ReloadError::Draining(_)
        | ReloadError::Inaccurate { .. }
        | ReloadError::Load(LoadFailure::Unfit(_)) => Status::failed_precondition(error_text(error)),
        ReloadError::Load(LoadFailure::Failed(_)) | ReloadError::Interrupted(_) => Status::internal(error_text(error)),
        ReloadError::Probe(error) => from_probe_error(error),
    }
}

/// For a request whose texts are in the field `texts`.
pub(super) fn from_embed_error(error: &EmbedError, texts: TextField) -> Status {
    from_failure(Failure::from_embed_error(error, texts))
}

fn from_failure(failure: Failure) -> Status {
    match failure {
        Failure::Invalid(violations) => invalid(&violations),
        Failure::Overloaded { message, retry_after } => busy(message, retry_after),
        Failure::Unavailable(message) => Status::unavailable(message),
        Failure::Internal(message) => Status::internal(message),
    }
}

pub(super) fn from_decode_failure(error: &DecodeFailure) -> Status {
    match error {
        DecodeFailure::Ids(error) => Status::internal(error_text(error)),
        DecodeFailure::Busy(full) => busy(error_text(full), full.retry_after),
    }
}

/// NOT_FOUND, for an unknown model.
pub(super) fn not_found(message: &str) -> Status {
    Status::not_found(error_text(message))
}

/// UNIMPLEMENTED, for a method of a protocol that the model or its engine cannot support.
pub(super) fn unimplemented(reason: &'static str) -> Status {
    Status::unimplemented(reason)
}

#[cfg(test)]
mod tests;
