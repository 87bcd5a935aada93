//! Requests on the HTTP port.

use std::time::Duration;

use tokio::time::Instant;

use super::families::{Durations, HttpLabels};

/// The status of a request whose caller left before it had one, as nginx counts it.
const CALLER_LEFT: u16 = 499;

/// A request under way. Dropped before its end is told, its caller has left.
#[derive(Debug)]
pub(crate) struct HttpRequest {
    durations: Durations<HttpLabels>,
    labels: HttpLabels,
    begun: Instant,
}

impl HttpRequest {
    pub(super) fn begin(durations: &Durations<HttpLabels>, method: &'static str, route: &str) -> Self {
        let labels = HttpLabels {
            http_request_method: method,
            http_route: route.to_owned(),
            http_response_status_code: CALLER_LEFT,
        };
        Self { durations: durations.clone(), labels, begun: Instant::now() }
    }

    /// Since it began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// It has been answered with this status.
    pub(crate) fn end(mut self, status: u16) {
        self.labels.http_response_status_code = status;
    }
}

impl Drop for HttpRequest {
    fn drop(&mut self) {
        self.durations.get_or_create(&self.labels).observe(self.begun.elapsed().as_secs_f64());
    }
}
