//! Why a call failed.

use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::verdict::{Hint, Verdict, hint, judge};
use embedd_proto::codes::code_name;
use embedd_proto::request_id::RequestId;

/// Why a call failed: [`kind`](Self::kind) for programs, the text for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    call: &'static str,
    kind: CallErrorKind,
    message: String,
    server: Option<String>,
    request_id: Option<RequestId>,
    attempts: u32,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallErrorKind {
    /// The request is wrong, and would be at any time.
    Invalid(Vec<Violation>),
    /// The token or the certificate is missing or does not open the server.
    Denied,
    /// The deadline came before an answer.
    Late,
    /// The servers have too much to do, and said so again when the call was repeated.
    Busy {
        /// When the server wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// No server was reached, or none of them serves now.
    Unavailable,
    /// A server failed, or does not know the call: the code as gRPC writes it.
    Failed(&'static str),
    /// The answer does not fit the request.
    BadReply,
    /// Different models embedded the texts of one request or stream: such vectors are not to be compared.
    MixedModels,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which of the request's texts, where it is one of them.
    pub text: Option<usize>,
    /// The field, as the API names it: `texts[3]`, `dimensions`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub description: String,
}

impl CallError {
    /// Of an attempt that failed.
    pub(super) fn of_status(call: &'static str, server: &str, attempts: u32, status: &Status) -> Self {
        let message = format!("{}: {}", code_name(status.code().into()), status.message());
        let (kind, message) = match (judge(status), status.code()) {
            (Verdict::Lost { .. }, _) => {
                (CallErrorKind::Unavailable, format!("the connection broke ({})", status.message()))
            }
            (Verdict::Late, _) => (CallErrorKind::Late, message),
            (_, Code::InvalidArgument | Code::OutOfRange) => (CallErrorKind::Invalid(violations(status)), message),
            (_, Code::Unauthenticated | Code::PermissionDenied) => (CallErrorKind::Denied, message),
            (_, Code::Unavailable) => (CallErrorKind::Unavailable, message),
            (_, Code::ResourceExhausted) => {
                let retry_after = match hint(status) {
                    Hint::After(wait) => Some(wait),
                    Hint::None | Hint::Never => None,
                };
                (CallErrorKind::Busy { retry_after }, message)
            }
            (_, code) => (CallErrorKind::Failed(code_name(code.into())), message),
        };
        let request_id = RequestId::told(status.metadata().as_ref());
        Self { call, kind, message, server: Some(server.to_owned()), request_id, attempts }
    }

    /// No server takes connections.
    pub(super) fn nowhere(call: &'static str, reason: &str, attempts: u32) -> Self {
        let message = format!("no server can be reached ({reason})");
        Self { call, kind: CallErrorKind::Unavailable, message, server: None, request_id: None, attempts }
    }

    /// The deadline passed; `last` is how the last attempt before failed.
    pub(super) fn late(call: &'static str, deadline: Duration, attempts: u32, last: Option<Self>) -> Self {
        let last = last.map(|error| format!("; before that: {}", error.message)).unwrap_or_default();
        let message = format!("no answer within the deadline of {deadline:?}{last}");
        Self { call, kind: CallErrorKind::Late, message, server: None, request_id: None, attempts }
    }

    pub(super) fn bad_reply(call: &'static str, given: usize, asked: usize) -> Self {
        let message = format!("{given} results for {asked} texts");
        Self { call, kind: CallErrorKind::BadReply, message, server: None, request_id: None, attempts: 1 }
    }

    pub(super) fn mixed_models(call: &'static str, one: &str, other: &str) -> Self {
        let message = format!("some texts were embedded by {one} and some by {other}");
        Self { call, kind: CallErrorKind::MixedModels, message, server: None, request_id: None, attempts: 1 }
    }

    /// The same of a request of which this one's texts began at `first`.
    pub(super) fn of_part_at(mut self, first: usize) -> Self {
        if let CallErrorKind::Invalid(violations) = &mut self.kind {
            for violation in violations.iter_mut() {
                if let Some(text) = &mut violation.text {
                    *text += first;
                    violation.field = format!("texts[{text}]");
                }
            }
            let told: Vec<String> =
                violations.iter().map(|each| format!("{} {}", each.field, each.description)).collect();
            if first > 0 && !told.is_empty() {
                self.message = format!("INVALID_ARGUMENT: {}", told.join("; "));
            }
        }
        self
    }

    /// What it is.
    pub fn kind(&self) -> &CallErrorKind {
        &self.kind
    }

    /// The server that failed the call, where it was one of them.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// By which the server's log knows the call, where the server told.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_ref().map(RequestId::as_str)
    }

    /// How often the call was tried.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    fn advice(&self) -> &'static str {
        match self.kind {
            CallErrorKind::Denied => "; does it need a token, or a certificate?",
            CallErrorKind::Busy { .. } => "; send less at once",
            CallErrorKind::Unavailable => "; is it running there, and with TLS if this is https?",
            CallErrorKind::MixedModels => "; try again when all servers have the same",
            CallErrorKind::Failed("UNIMPLEMENTED") => "; is it a listener of the embedding service?",
            _ => "",
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call)?;
        if let Some(server) = &self.server {
            write!(f, " at {server}")?;
        }
        write!(f, ": {}{}", self.message, self.advice())?;
        if self.attempts > 1 {
            write!(f, " ({} attempts)", self.attempts)?;
        }
        match &self.request_id {
            Some(id) => write!(f, " [request {}]", id.as_str()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CallError {}

fn violations(status: &Status) -> Vec<Violation> {
    let details = status.get_details_bad_request();
    let fields = details.into_iter().flat_map(|details| details.field_violations);
    fields
        .map(|violation| Violation {
            text: index(&violation.field),
            field: violation.field,
            description: violation.description,
        })
        .collect()
}

/// Of `texts[3]`: 3.
fn index(field: &str) -> Option<usize> {
    field.strip_prefix("texts[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    fn of(status: &Status) -> CallError {
        CallError::of_status("Embed", "a:1", 1, status)
    }

    #[test]
    fn what_failed_where_and_what_to_do_is_told() {
        assert_eq!(
            of(&Status::unauthenticated("no token")).to_string(),
            "Embed at a:1: UNAUTHENTICATED: no token; does it need a token, or a certificate?"
        );
        let mut named = Status::not_found("no");
        named.metadata_mut().insert("x-request-id", "r-1".parse().expect("metadata"));
        assert_eq!(of(&named).to_string(), "Embed at a:1: NOT_FOUND: no [request r-1]");
        assert_eq!(of(&named).request_id(), Some("r-1"));
        let nowhere = CallError::nowhere("Embed", "a:1: refused", 5);
        let late = CallError::late("Embed", Duration::from_millis(50), 2, Some(nowhere.clone()));
        assert_eq!(
            late.to_string(),
            "Embed: no answer within the deadline of 50ms; before that: no server can be reached (a:1: refused) (2 attempts)"
        );
        assert_eq!((nowhere.kind(), late.kind()), (&CallErrorKind::Unavailable, &CallErrorKind::Late));
    }

    #[test]
    fn codes_become_kinds() {
        for (status, kind) in [
            (Status::permission_denied(""), CallErrorKind::Denied),
            (Status::deadline_exceeded(""), CallErrorKind::Late),
            (Status::from_error(tonic::TimeoutExpired(()).into()), CallErrorKind::Late),
            (Status::unavailable(""), CallErrorKind::Unavailable),
            (Status::resource_exhausted(""), CallErrorKind::Busy { retry_after: None }),
            (Status::internal(""), CallErrorKind::Failed("INTERNAL")),
            (Status::out_of_range(""), CallErrorKind::Invalid(Vec::new())),
        ] {
            assert_eq!(of(&status).kind(), &kind, "{status}");
        }
    }

    #[test]
    fn a_wrong_text_is_told_by_its_place_in_the_whole_request() {
        let field = |name: &str| FieldViolation::new(name, "is wrong");
        let details = ErrorDetails::with_bad_request(vec![field("texts[3]"), field("dimensions")]);
        let status = Status::with_error_details(Code::InvalidArgument, "texts[3] is wrong", details);
        let error = of(&status).of_part_at(256);
        let CallErrorKind::Invalid(violations) = error.kind() else { panic!("{error}") };
        let told: Vec<_> = violations.iter().map(|each| (each.text, each.field.as_str())).collect();
        assert_eq!(told, [(Some(259), "texts[259]"), (None, "dimensions")]);
        assert!(error.to_string().contains("texts[259] is wrong"), "{error}");
    }
}
