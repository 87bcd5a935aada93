//! The errors that end the server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::load::LoadModelError;
use crate::admin_token::NoTokenFile;
use crate::net::TlsError;
use crate::tokens::TokensError;
use crate::trace::TraceError;

/// Why the server did not start, or failed while it ran.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    /// The address is in use, or does not belong to this machine.
    #[error("cannot listen on {address} ({setting}): {source}")]
    Listen {
        address: SocketAddr,
        /// The flag that sets the address.
        setting: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Load(#[from] LoadModelError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Tokens(#[from] TokensError),
    #[error(transparent)]
    AdminToken(#[from] NoTokenFile),
    #[error(transparent)]
    Traces(#[from] TraceError),
    #[error("{requests} requests were still in flight after {timeout:?} (--drain-timeout) and were cut off")]
    DrainTimeout { requests: usize, timeout: Duration },
}
