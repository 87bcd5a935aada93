//! The web pages that may call the APIs of the HTTP port.

use http::header::ORIGIN;
use http::{HeaderMap, HeaderValue};

/// The origins of these pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// All pages.
    Any,
    /// Pages with one of these origins, such as `https://app.example.com`.
    List(Vec<HeaderValue>),
}

impl CorsOrigins {
    /// Whether the page that caused a request is one of them.
    pub(crate) fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(ORIGIN) else { return false };
        match self {
            Self::Any => true,
            Self::List(origins) => origins.contains(origin),
        }
    }
}
