//! The signals between a connection and its byte stream.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Default)]
pub(super) struct ConnectionSignals {
    /// Cancelled by the connection to close the stream.
    pub(super) close: CancellationToken,
    /// Cancelled by the stream when it is dropped.
    pub(super) closed: CancellationToken,
    /// Set by the stream once the client has started to speak HTTP/2.
    pub(super) started: Arc<AtomicBool>,
}
