//! gRPC status codes and their names.

/// A gRPC status code, 0 (OK) to 16 (UNAUTHENTICATED).
pub type Code = i32;

/// The names of the codes as gRPC writes them, indexed by code.
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

/// Returns the name of a code, or `UNKNOWN` if gRPC does not define it.
pub fn code_name(code: Code) -> &'static str {
    usize::try_from(code).ok().and_then(|code| NAMES.get(code)).copied().unwrap_or("UNKNOWN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_that_grpc_gives_them() {
        assert_eq!((code_name(0), code_name(9), code_name(16)), ("OK", "FAILED_PRECONDITION", "UNAUTHENTICATED"));
        assert_eq!((code_name(17), code_name(-1)), ("UNKNOWN", "UNKNOWN"));
    }
}
