//! Lets the propagator read request headers.

use http::{HeaderMap, HeaderName};
use opentelemetry::propagation::Extractor;

pub(super) struct Headers<'h>(pub(super) &'h HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
