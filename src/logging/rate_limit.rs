//! Limits the rate of log lines of each kind, so that callers cannot flood the log. Lines of one kind come from the same
//! place in the program.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Lines of one kind within [`PERIOD`]; further ones are counted.
const MAX_LINES: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);
/// Reports about suppressed lines are not suppressed themselves, and progress is not caused by callers.
const UNLIMITED: [&str; 2] = [super::TARGET, "embedd_common::progress"];

/// The kinds of lines that were logged; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct RateLimit(Arc<Mutex<HashMap<Identifier, Kind>>>);

#[derive(Debug)]
struct Kind {
    metadata: &'static Metadata<'static>,
    period_start: Instant,
    lines: u32,
    suppressed: u64,
    /// Of the first line that was suppressed.
    message: String,
}

/// Lines that were not logged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Suppressed {
    pub(super) lines: u64,
    /// The message of the first of them.
    pub(super) message: String,
    /// Where they come from.
    pub(super) target: &'static str,
}

impl RateLimit {
    /// Whether a line is logged.
    fn admit(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        // More verbose levels are chosen by the operator; they log every request.
        if *metadata.level() > Level::INFO || UNLIMITED.contains(&metadata.target()) {
            return true;
        }
        let mut kinds = self.kinds();
        let kind = kinds.entry(metadata.callsite()).or_insert_with(|| Kind {
            metadata,
            period_start: now,
            lines: 0,
            suppressed: 0,
            message: String::new(),
        });
        if now.saturating_duration_since(kind.period_start) >= PERIOD {
            kind.period_start = now;
            kind.lines = 0;
        }
        if kind.lines < MAX_LINES {
            kind.lines += 1;
            return true;
        }
        if kind.suppressed == 0 {
            kind.message = Message::of(event);
        }
        kind.suppressed += 1;
        false
    }

    /// The lines suppressed since the last call.
    pub(super) fn take_suppressed(&self) -> Vec<Suppressed> {
        let mut kinds = self.kinds();
        let suppressed = kinds.values_mut().filter(|kind| kind.suppressed > 0).map(|kind| Suppressed {
            lines: std::mem::take(&mut kind.suppressed),
            message: std::mem::take(&mut kind.message),
            target: kind.metadata.target(),
        });
        suppressed.collect()
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<Identifier, Kind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for RateLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.admit(event, Instant::now())
    }
}

/// Reads the message of an event.
struct Message(String);

impl Message {
    fn of(event: &Event<'_>) -> String {
        let mut message = Self(String::new());
        event.record(&mut message);
        message.0
    }
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::registry;

    use super::*;

    /// Counts the lines that pass, at times that the test sets.
    struct Counted {
        limit: RateLimit,
        now: Arc<Mutex<Instant>>,
        passed: Arc<Mutex<u32>>,
    }

    impl<S: Subscriber> Layer<S> for Counted {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let now = *self.now.lock().expect("no panic");
            *self.passed.lock().expect("no panic") += u32::from(self.limit.admit(event, now));
        }
    }

    #[test]
    fn lines_of_one_kind_are_limited_and_the_rest_is_counted() {
        let limit = RateLimit::default();
        let now = Arc::new(Mutex::new(Instant::now()));
        let passed = Arc::new(Mutex::new(0));
        let layer = Counted { limit: limit.clone(), now: Arc::clone(&now), passed: Arc::clone(&passed) };
        let take_passed = || std::mem::take(&mut *passed.lock().expect("no panic"));
        let repeat = |times: u32| (0..times).for_each(|number| tracing::warn!(number, "call {} failed", 7));
        tracing::subscriber::with_default(registry().with(layer), || {
            repeat(100);
            assert_eq!(take_passed(), 10);
            tracing::warn!("another kind");
            assert_eq!(take_passed(), 1, "other kinds have their own limit");
            let suppressed = limit.take_suppressed();
            let expected = Suppressed { lines: 90, message: "call 7 failed".to_owned(), target: module_path!() };
            assert_eq!(suppressed, [expected]);
            assert_eq!(limit.take_suppressed(), []);

            *now.lock().expect("no panic") += PERIOD;
            repeat(11);
            assert_eq!((take_passed(), limit.take_suppressed().len()), (10, 1), "a new period");

            (0..100).for_each(|_| tracing::debug!("an access log"));
            (0..100).for_each(|_| tracing::info!(target: "embedd_common::progress", "a layer"));
            assert_eq!((take_passed(), limit.take_suppressed().len()), (200, 0), "neither is limited");
        });
    }
}
