//! Limits of the gRPC transport.

/// Limits that the transport enforces before a request reaches its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TransportLimits {
    /// Bytes in one message from a client. Replies have no limit: their size follows from the request, and rejecting
    /// one would throw away finished work.
    pub max_message_bytes: usize,
    /// Concurrent calls on one connection.
    pub max_concurrent_streams: u32,
    /// Bytes in the header list of one call.
    pub max_header_bytes: u32,
}
