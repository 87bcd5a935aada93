//! Calls that were answered with an error, of all protocols, by what their callers can do.

use std::sync::atomic::{AtomicU64, Ordering};

use embedd_proto::codes::Code;

/// Errors since the start. Calls whose callers disconnected are not errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ErrorTotals {
    /// The request was wrong: the same one would be rejected again.
    pub rejected: u64,
    /// The server was too busy or not ready, or a deadline expired: the same request may succeed later.
    pub overloaded: u64,
    /// The server failed.
    pub failed: u64,
}

#[derive(Debug, Default)]
pub(super) struct ErrorCounters {
    rejected: AtomicU64,
    overloaded: AtomicU64,
    failed: AtomicU64,
}

impl ErrorCounters {
    pub(super) fn count_code(&self, code: Code) {
        match code {
            // OK and CANCELLED.
            0 | 1 => {}
            // DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED and UNAVAILABLE.
            4 | 8 | 14 => count(&self.overloaded),
            // UNKNOWN, ABORTED, INTERNAL and DATA_LOSS.
            2 | 10 | 13 | 15 => count(&self.failed),
            _ => count(&self.rejected),
        }
    }

    pub(super) fn count_http_status(&self, status: u16) {
        match status {
            ..=399 => {}
            408 | 429 | 503 => count(&self.overloaded),
            // 501: the model cannot do what the request asks for.
            400..=499 | 501 => count(&self.rejected),
            500.. => count(&self.failed),
        }
    }

    pub(super) fn totals(&self) -> ErrorTotals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ErrorTotals { rejected: read(&self.rejected), overloaded: read(&self.overloaded), failed: read(&self.failed) }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
