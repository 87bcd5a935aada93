use tonic::codegen::http::HeaderValue;

use super::*;
use embedd_proto::request_id::REQUEST_ID;

/// Bytes of headers that every client accepts, less those of the other headers of a reply.
const HEADER_BYTES: usize = (8 << 10) - 1024;

/// The bytes of the headers that carry a status, as HTTP/2 counts them (RFC 9113, section 6.5.2).
fn header_bytes(status: &Status) -> usize {
    let mut headers = HeaderMap::new();
    status.add_header(&mut headers).expect("headers");
    let of_caller = HeaderValue::from_str(&"x".repeat(128)).expect("an id");
    let id = RequestId::from_headers_or_new(&HeaderMap::from_iter([(REQUEST_ID.clone(), of_caller)]));
    add_request_info(&mut headers, &id);
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

#[test]
fn every_client_can_receive_the_error_for_any_number_of_invalid_fields() {
    // In a message, each byte of a non-ASCII character takes three bytes.
    for word in ["x", "é", "東"] {
        for length in [1, 40, 1000] {
            let mut violations = Violations::default();
            for _ in 0..1000 {
                violations.add(word.repeat(length), word.repeat(length));
            }
            let bytes = header_bytes(&invalid(&violations));
            assert!(bytes <= HEADER_BYTES, "{length} times {word}: {bytes}");
        }
    }
}

#[test]
fn every_client_can_receive_errors_that_repeat_a_long_path() {
    let path = "/東".repeat(100_000);
    for failure in [LoadFailure::NotFound, LoadFailure::NotABundle(path)] {
        let bytes = header_bytes(&from_reload_error(&failure.into()));
        assert!(bytes <= HEADER_BYTES, "{bytes}");
    }
}
