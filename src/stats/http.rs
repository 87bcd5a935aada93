//! Requests on the HTTP port.

use std::time::Duration;

use tokio::time::Instant;

use super::families::{Durations, HttpLabels};

/// nginx's status for a client that disconnected before the response.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// A request in flight. If it is dropped without [`end`](Self::end), its caller has disconnected.
#[derive(Debug)]
pub(crate) struct HttpRequest {
    durations: Durations<HttpLabels>,
    labels: HttpLabels,
    start: Instant,
}

impl HttpRequest {
    pub(super) fn begin(durations: &Durations<HttpLabels>, method: &'static str, route: &str) -> Self {
        let labels = HttpLabels {
            http_request_method: method,
            http_route: route.to_owned(),
            http_response_status_code: CLIENT_CLOSED_REQUEST,
        };
        Self { durations: durations.clone(), labels, start: Instant::now() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends the request with this status.
    pub(crate) fn end(mut self, status: u16) {
        self.labels.http_response_status_code = status;
    }
}

impl Drop for HttpRequest {
    fn drop(&mut self) {
        self.durations.get_or_create(&self.labels).observe(self.start.elapsed().as_secs_f64());
    }
}
