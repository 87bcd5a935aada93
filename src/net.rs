//! Connections of all listeners: accepted within limits, encrypted if configured, served over HTTP/1 or HTTP/2 by one
//! driver, and ended by it. What a call means is up to the service: `grpc` and `http` bring their own.
//!
//! A connection that does nothing gives way to a new one, bytes that it holds in memory are counted, and every wait for
//! its client has a limit.

mod accept;
mod budget;
mod call;
mod connection;
mod driver;
mod limits;
mod protocols;
mod registry;
mod reply;
mod stream;
mod tls;

pub(crate) use accept::serve;
pub(crate) use budget::{Budgets, ByteLimits, Charge, Exhausted};
pub(crate) use call::{Call, Reservation};
pub(crate) use limits::{CallKind, ConnectionLimits, ListenerConfig, MaxConnections};
pub(crate) use protocols::Protocols;
pub(crate) use tls::{Tls, TlsError, TlsFiles};

#[cfg(test)]
pub(crate) mod tests;
