//! Limits of the HTTP port.

use std::time::Duration;

use crate::accept::MaxConnections;

#[derive(Debug, Clone, Copy)]
pub(crate) struct HttpLimits {
    pub max_connections: MaxConnections,
    /// Bytes of the head of a request: its first line and its headers.
    pub max_header_bytes: usize,
    /// The age, give or take a tenth, at which a connection is closed after the request in flight.
    pub max_age: Option<Duration>,
    /// How long the request in flight may take beyond the maximum age.
    pub grace: Option<Duration>,
}
