//! Limits of a listener and its connections.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::budget::Budgets;
use super::protocols::Protocols;
use super::tls::Tls;

/// How a listener accepts and serves connections.
#[derive(Debug, Clone)]
pub(crate) struct ListenerConfig {
    /// If set, connections are encrypted.
    pub tls: Option<Tls>,
    pub protocols: Protocols,
    pub max_connections: MaxConnections,
    pub limits: ConnectionLimits,
    pub budgets: Budgets,
    /// Cancelled when the server accepts no more calls, if that is before the listener is closed. Connections opened
    /// before are then shut down, so that the drain can wait for them; later ones are for probes.
    pub draining: Option<CancellationToken>,
    /// The kind of the call to a path.
    pub kind: fn(&str) -> CallKind,
}

/// What a call means for its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// It is charged to the memory for messages while it lasts.
    Work,
    /// It may wait for events forever, so its connection counts as idle.
    Watch,
    /// A health probe, which is answered even if the memory for messages is used up.
    Probe,
}

/// The maximum number of concurrent connections of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaxConnections {
    /// A connection beyond it replaces an idle one, or is closed immediately if there is none.
    pub count: usize,
    /// The flag that sets it, if any.
    pub setting: Option<&'static str>,
}

/// Limits of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// The time without a frame after which an HTTP/2 client is pinged.
    pub keepalive_interval: Option<Duration>,
    /// How long the client may take to answer a ping.
    pub keepalive_timeout: Duration,
    /// How long a connection may stay open without a call.
    pub idle_timeout: Option<Duration>,
    /// The age, give or take a tenth, at which the client is asked to reconnect.
    pub max_age: Option<Duration>,
    /// How long calls in flight may take beyond the maximum age.
    pub grace: Option<Duration>,
    /// How long replies may wait for a client that reads nothing.
    pub reply_timeout: Duration,
    /// Concurrent calls on an HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// Bytes in the headers of one call.
    pub max_header_bytes: u32,
}
