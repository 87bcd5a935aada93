//! The protocols of a listener.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocols {
    /// gRPC.
    Http2,
    /// HTTP/1, or HTTP/2 if the client starts with its preface ("prior knowledge", RFC 9113, section 3.3).
    Http1OrHttp2,
}
