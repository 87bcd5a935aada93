//! Log lines on stderr: text for humans, JSON for collectors.

use std::io::{self, IsTerminal as _};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::{MakeWriter, fmt};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{LogFilter, LogFormat};

mod panics;

pub(crate) use panics::log_panics;

/// A library that logs texts character by character at `trace`, and the most verbose level that is safe.
const QUOTES_TEXTS: (&str, Level) = ("tokenizers", Level::DEBUG);

/// Logging is already set up.
#[derive(Debug, thiserror::Error)]
#[error("logging is already set up in this process; set it up only once, before any other code does")]
pub(crate) struct AlreadySet(#[source] TryInitError);

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
/// [`AlreadySet`] on a second call.
pub(crate) fn init(format: LogFormat, filter: &LogFilter) -> Result<(), AlreadySet> {
    // https://no-color.org: any value but the empty one counts.
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let style = style(format, io::stderr().is_terminal(), no_color);
    subscriber(style, filter, io::stderr).try_init().map_err(AlreadySet)
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
