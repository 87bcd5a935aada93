//! The codes of gRPC's statuses, and their names.

/// A code of gRPC, 0 (OK) to 16 (UNAUTHENTICATED).
pub type Code = i32;

/// As gRPC writes them, each at the place of its code.
pub const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of a code; `UNKNOWN` where it is none.
pub fn code_name(code: Code) -> &'static str {
    usize::try_from(code).ok().and_then(|code| NAMES.get(code)).copied().unwrap_or("UNKNOWN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_grpc() {
        assert_eq!((code_name(0), code_name(9), code_name(16)), ("OK", "FAILED_PRECONDITION", "UNAUTHENTICATED"));
        assert_eq!((code_name(17), code_name(-1)), ("UNKNOWN", "UNKNOWN"));
    }
}
