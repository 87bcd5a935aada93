//! Log lines on stderr: text for humans, JSON for collectors.
//!
//! A server must not depend on anything reading its stderr, and its callers must not be able to fill its log. Its lines go
//! through a bounded queue, and the rate of lines of one kind is limited. Commands write directly.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::{MakeWriter, fmt};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{LogFilter, LogFormat};

mod panics;
mod queue;
mod rate_limit;

pub(crate) use panics::log_panics;
use queue::Queue;
use rate_limit::{RateLimit, Suppressed};

/// The target of lines about the log itself.
const TARGET: &str = "embedd::logging";

/// Lines that were suppressed or dropped since the start.
static LOST_LINES: AtomicU64 = AtomicU64::new(0);

/// A library that logs texts character by character at `trace`, and the most verbose level that is safe.
const QUOTES_TEXTS: (&str, Level) = ("tokenizers", Level::DEBUG);

/// Logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoggingError {
    #[error("logging is already set up in this process; set it up only once, before any other code does")]
    AlreadySet(#[source] TryInitError),
    #[error("the thread that writes the log cannot be started: {0}")]
    Thread(#[source] io::Error),
}

/// The log of a server. Cheap to clone; when one is dropped, it waits until the lines so far are written.
#[derive(Debug, Clone)]
pub(crate) struct ServerLog {
    queue: Queue,
    limit: RateLimit,
}

/// The appearance of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Colored,
    Plain,
    Json,
}

/// Sends the log lines of this process, including those of libraries, to stderr.
///
/// # Errors
/// [`LoggingError`], for example on a second call.
pub(crate) fn init(format: LogFormat, filter: &LogFilter) -> Result<(), LoggingError> {
    subscriber(stderr_style(format), filter, io::stderr).try_init().map_err(LoggingError::AlreadySet)
}

/// The same for a server: lines are limited in their rate, and written by a thread of their own.
///
/// # Errors
/// [`LoggingError`].
pub(crate) fn init_server(format: LogFormat, filter: &LogFilter) -> Result<ServerLog, LoggingError> {
    let (queue, pending) = queue::queue();
    let limit = RateLimit::default();
    let log = ServerLog { queue: queue.clone(), limit: limit.clone() };
    let reports = log.clone();
    let writer = move || queue.clone();
    let lines = subscriber(stderr_style(format), filter, writer).with(limit);
    lines.try_init().map_err(LoggingError::AlreadySet)?;
    pending.write_to(io::stderr(), move || reports.report_lost_lines()).map_err(LoggingError::Thread)?;
    Ok(log)
}

/// The number of lines that were suppressed or dropped since the start.
pub(crate) fn lost_lines() -> u64 {
    LOST_LINES.load(Ordering::Relaxed)
}

impl ServerLog {
    fn report_lost_lines(&self) {
        for Suppressed { lines, message, target } in self.limit.take_suppressed() {
            LOST_LINES.fetch_add(lines, Ordering::Relaxed);
            tracing::warn!(target: TARGET, lines, of = message, from = target, "similar log lines suppressed");
        }
        let lines = self.queue.take_dropped();
        if lines > 0 {
            LOST_LINES.fetch_add(lines, Ordering::Relaxed);
            tracing::warn!(target: TARGET, lines, "log lines dropped; stderr was not read quickly enough");
        }
    }
}

impl Drop for ServerLog {
    fn drop(&mut self) {
        self.report_lost_lines();
        self.queue.flush();
    }
}

/// The style of lines on stderr.
fn stderr_style(format: LogFormat) -> Style {
    // https://no-color.org: any value but the empty one counts.
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    style(format, io::stderr().is_terminal(), no_color)
}

fn style(format: LogFormat, terminal: bool, no_color: bool) -> Style {
    match format {
        LogFormat::Json => Style::Json,
        LogFormat::Auto if !terminal => Style::Json,
        LogFormat::Auto | LogFormat::Text if terminal && !no_color => Style::Colored,
        LogFormat::Auto | LogFormat::Text => Style::Plain,
    }
}

/// Times are RFC 3339 in UTC. A line that cannot be written is dropped: reporting that would need the same stderr.
fn subscriber<W>(style: Style, filter: &LogFilter, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = fmt().with_env_filter(filter.env_filter()).with_writer(writer).log_internal_errors(false);
    let safe = filter_fn(is_safe);
    match style {
        Style::Json => Box::new(lines.json().flatten_event(true).with_span_list(false).finish().with(safe)),
        Style::Colored => Box::new(lines.with_ansi(true).finish().with(safe)),
        Style::Plain => Box::new(lines.with_ansi(false).finish().with(safe)),
    }
}

/// Whether a line cannot quote the text of a request. Applies on top of the user's filter.
fn is_safe(line: &Metadata<'_>) -> bool {
    let (library, max_level) = QUOTES_TEXTS;
    *line.level() <= max_level || !line.target().starts_with(library)
}

#[cfg(test)]
mod tests;
