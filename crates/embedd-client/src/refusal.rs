//! What a server says in place of an answer, for people.

use tonic::{Code, Status};

use embedd_proto::codes::code_name;
use embedd_proto::request_id::RequestId;

/// The server was reached, and did not do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the server says {name}: {message}{advice}{request}", name = name(*code))]
pub struct Refused {
    code: Code,
    message: String,
    advice: &'static str,
    /// How the server's log knows the call, where the server told.
    request: String,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let advice = match status.code() {
            Code::Unimplemented => "; is --server the right one of its listeners?",
            Code::Unauthenticated => "; --token-file names a file with the token",
            Code::PermissionDenied => "; --token-file and --certificate say who asks",
            Code::Unavailable | Code::ResourceExhausted => "; try again later",
            _ => "",
        };
        let id = RequestId::told(status.metadata().as_ref());
        let request = id.map(|id| format!(" [request {}]", id.as_str())).unwrap_or_default();
        Self { code: status.code(), message: status.message().to_owned(), advice, request }
    }
}

/// As gRPC writes it.
fn name(code: Code) -> &'static str {
    code_name(code.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_the_code_the_reason_and_what_to_do() {
        let told = Refused::from(Status::unimplemented("no such call")).to_string();
        assert_eq!(told, "the server says UNIMPLEMENTED: no such call; is --server the right one of its listeners?");
        let mut status = Status::not_found("there is no folder /x");
        status.metadata_mut().insert("x-request-id", "r-1".parse().expect("metadata"));
        assert_eq!(Refused::from(status).to_string(), "the server says NOT_FOUND: there is no folder /x [request r-1]");
        let told = Refused::from(Status::not_found("there is no folder /x")).to_string();
        assert_eq!(told, "the server says NOT_FOUND: there is no folder /x");
    }
}
