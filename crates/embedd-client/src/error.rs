//! Errors of calls, and the single table that maps status codes to kinds and advice.

use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::verdict::{Hint, Verdict, hint, judge};
use embedd_proto::codes::code_name;
use embedd_proto::request_id::RequestId;

/// Why a call failed: [`kind`](Self::kind) for programs, `Display` for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    call: &'static str,
    kind: CallErrorKind,
    message: String,
    server: Option<String>,
    request_id: Option<RequestId>,
    attempts: u32,
}

/// The kind of a [`CallError`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallErrorKind {
    /// The request is invalid. Retrying it is pointless.
    Invalid(Vec<Violation>),
    /// The token or the certificate is missing or was rejected.
    Denied,
    /// The deadline passed before an answer arrived.
    Late,
    /// The servers are overloaded, and retries did not help.
    Busy {
        /// How long to wait before the next attempt, if the server specified it.
        retry_after: Option<Duration>,
    },
    /// No server could be reached, or none is ready.
    Unavailable,
    /// The call failed with another code, given here by its gRPC name.
    Failed(&'static str),
    /// The reply does not match the request.
    BadReply,
    /// Different models embedded the texts of one request or stream. Their vectors cannot be compared.
    MixedModels,
}

/// One problem with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The index of the text, if the problem concerns one.
    pub text: Option<usize>,
    /// The field as the API names it, such as `texts[3]` or `dimensions`.
    pub field: String,
    /// What is wrong, and what is expected.
    pub description: String,
}

impl CallError {
    /// Converts the status of a failed call, made over a plain [`Connection`](crate::Connection):
    /// `.map_err(CallError::of("GetStats"))`.
    pub fn of(call: &'static str) -> impl Fn(Status) -> Self {
        move |status| Self::of_attempt(call, None, 1, &status)
    }

    /// The error of a failed attempt.
    pub(crate) fn of_attempt(call: &'static str, server: Option<&str>, attempts: u32, status: &Status) -> Self {
        let message = format!("{}: {}", code_name(status.code().into()), status.message());
        let (kind, message) = match (judge(status), status.code()) {
            (Verdict::Unprocessed { .. } | Verdict::Broken { .. }, _) => {
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
        let request_id = RequestId::from_headers(status.metadata().as_ref());
        Self { call, kind, message, server: server.map(str::to_owned), request_id, attempts }
    }

    pub(crate) fn no_server(call: &'static str, reason: &str, attempts: u32) -> Self {
        let message = format!("no server can be reached ({reason})");
        Self { call, kind: CallErrorKind::Unavailable, message, server: None, request_id: None, attempts }
    }

    /// The deadline passed. `last` is the error of the previous attempt.
    pub(crate) fn late(call: &'static str, deadline: Duration, attempts: u32, last: Option<Self>) -> Self {
        let last = last.map(|error| format!("; before that: {}", error.message)).unwrap_or_default();
        let message = format!("no answer within the deadline of {deadline:?}{last}");
        Self { call, kind: CallErrorKind::Late, message, server: None, request_id: None, attempts }
    }

    pub(crate) fn bad_reply(call: &'static str, received: usize, expected: usize) -> Self {
        let message = format!("the server returned {received} results for {expected} texts");
        Self { call, kind: CallErrorKind::BadReply, message, server: None, request_id: None, attempts: 1 }
    }

    pub(crate) fn mixed_models(call: &'static str, one: &str, other: &str) -> Self {
        let message = format!("some texts were embedded by {one}, others by {other}");
        Self { call, kind: CallErrorKind::MixedModels, message, server: None, request_id: None, attempts: 1 }
    }

    /// Converts the error of a part to that of the whole request, in which the part's texts start at index `first`.
    pub(crate) fn for_whole_request(mut self, first: usize) -> Self {
        if let CallErrorKind::Invalid(violations) = &mut self.kind {
            for violation in violations.iter_mut() {
                if let Some(text) = &mut violation.text {
                    *text += first;
                    violation.field = format!("texts[{text}]");
                }
            }
            let problems: Vec<String> =
                violations.iter().map(|each| format!("{} {}", each.field, each.description)).collect();
            if first > 0 && !problems.is_empty() {
                self.message = format!("INVALID_ARGUMENT: {}", problems.join("; "));
            }
        }
        self
    }

    /// The kind of the error.
    pub fn kind(&self) -> &CallErrorKind {
        &self.kind
    }

    /// The server that the failed call was sent to, if any.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// The id of the call in the server's logs, if the server returned one.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_ref().map(RequestId::as_str)
    }

    /// The number of attempts.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    fn advice(&self) -> &'static str {
        match self.kind {
            CallErrorKind::Denied => "; check the token and the client certificate",
            CallErrorKind::Busy { .. } => "; send fewer requests at once",
            CallErrorKind::Unavailable => {
                "; check that the server is running and ready, and that it uses TLS if the address is https"
            }
            CallErrorKind::MixedModels => "; retry when all servers run the same model",
            CallErrorKind::Failed("UNIMPLEMENTED") => "; check that this is the right listener of the server",
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

/// The index in `texts[3]`.
fn index(field: &str) -> Option<usize> {
    field.strip_prefix("texts[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    fn of(status: &Status) -> CallError {
        CallError::of_attempt("Embed", Some("a:1"), 1, status)
    }

    #[test]
    fn errors_state_what_failed_and_where_and_what_to_do() {
        assert_eq!(
            of(&Status::unauthenticated("no token")).to_string(),
            "Embed at a:1: UNAUTHENTICATED: no token; check the token and the client certificate"
        );
        let mut named = Status::not_found("no");
        named.metadata_mut().insert("x-request-id", "r-1".parse().expect("metadata"));
        assert_eq!(of(&named).to_string(), "Embed at a:1: NOT_FOUND: no [request r-1]");
        assert_eq!(of(&named).request_id(), Some("r-1"));
        let no_server = CallError::no_server("Embed", "a:1: refused", 5);
        let late = CallError::late("Embed", Duration::from_millis(50), 2, Some(no_server.clone()));
        assert_eq!(
            late.to_string(),
            "Embed: no answer within the deadline of 50ms; before that: no server can be reached (a:1: refused) (2 attempts)"
        );
        assert_eq!((no_server.kind(), late.kind()), (&CallErrorKind::Unavailable, &CallErrorKind::Late));
    }

    #[test]
    fn errors_of_plain_connections_have_the_same_advice() {
        let error = CallError::of("GetStats")(Status::unimplemented("no such call"));
        let expected = "GetStats: UNIMPLEMENTED: no such call; check that this is the right listener of the server";
        assert_eq!((error.to_string().as_str(), error.server()), (expected, None));
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
    fn an_invalid_text_is_named_by_its_index_in_the_whole_request() {
        let field = |name: &str| FieldViolation::new(name, "is invalid");
        let details = ErrorDetails::with_bad_request(vec![field("texts[3]"), field("dimensions")]);
        let status = Status::with_error_details(Code::InvalidArgument, "texts[3] is invalid", details);
        let error = of(&status).for_whole_request(256);
        let CallErrorKind::Invalid(violations) = error.kind() else { panic!("{error}") };
        let fields: Vec<_> = violations.iter().map(|each| (each.text, each.field.as_str())).collect();
        assert_eq!(fields, [(Some(259), "texts[259]"), (None, "dimensions")]);
        assert!(error.to_string().contains("texts[259] is invalid"), "{error}");
    }
}
