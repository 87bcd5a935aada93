//! Progress of long-running work on standard error: bars on a terminal, plain lines or log lines elsewhere.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

/// A task that makes progress prints a line at least this often.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Minimum time between lines for each quarter: a fast task prints only its start and end.
const QUARTER_INTERVAL: Duration = Duration::from_secs(1);
/// How often a bar is redrawn without progress, so that its clock keeps running.
const TICK: Duration = Duration::from_millis(200);

/// Where progress is reported. Clones share the output.
#[derive(Clone)]
pub struct Progress(Arc<Sink>);

enum Sink {
    Bars(MultiProgress),
    Lines(Mutex<Box<dyn Write + Send>>),
    Log,
    Silent,
}

/// The unit that a task counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, printed as kB, MB and GB (powers of 1000).
    Bytes,
    /// Anything else, such as layers, texts or runs.
    Steps,
}

/// One piece of work in progress. Dropping it before [`Task::finish`] clears its bar and prints nothing.
#[derive(Debug)]
pub struct Task {
    what: String,
    unit: Unit,
    progress: Progress,
    started: Instant,
    output: Output,
}

#[derive(Debug)]
enum Output {
    Bar(ProgressBar),
    Lines(Mutex<Count>),
}

/// The amount done, and the amount last printed.
#[derive(Debug)]
struct Count {
    done: u64,
    total: Option<u64>,
    printed: u64,
    printed_at: Instant,
}

impl Progress {
    /// Bars if standard error is a terminal, otherwise plain lines.
    pub fn auto() -> Self {
        Self::bars().unwrap_or_else(Self::plain)
    }

    /// Bars if standard error is a terminal, otherwise log records, so that the log keeps its format.
    pub fn auto_in_log() -> Self {
        Self::bars().unwrap_or_else(|| Self(Arc::new(Sink::Log)))
    }

    fn bars() -> Option<Self> {
        let bars = MultiProgress::new();
        (io::stderr().is_terminal() && !bars.is_hidden()).then(|| Self(Arc::new(Sink::Bars(bars))))
    }

    /// Plain lines on standard error: one at the start of a task, one every few seconds, one at the end.
    pub fn plain() -> Self {
        Self::lines_to(Box::new(io::stderr()))
    }

    /// No output.
    pub fn silent() -> Self {
        Self(Arc::new(Sink::Silent))
    }

    /// Plain lines into `writer`.
    pub(crate) fn lines_to(writer: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Sink::Lines(Mutex::new(writer))))
    }

    /// Starts a task. `what` is printed as is, such as "fetching the runtime". `total` is the total amount, if known.
    pub fn task(&self, what: &str, total: Option<u64>, unit: Unit) -> Task {
        let started = Instant::now();
        let output = if let Sink::Bars(bars) = &*self.0 {
            let bar = bars.add(ProgressBar::no_length().with_style(style(total.is_some(), unit)));
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_message(what.to_owned());
            bar.enable_steady_tick(TICK);
            Output::Bar(bar)
        } else {
            let of = total.map_or_else(String::new, |total| format!(" ({})", unit.amount(total)));
            self.note(&format!("{what}{of}"));
            Output::Lines(Mutex::new(Count { done: 0, total, printed: 0, printed_at: started }))
        };
        Task { what: what.to_owned(), unit, progress: self.clone(), started, output }
    }

    /// Prints one line.
    pub fn note(&self, line: &str) {
        // A closed standard error must not stop the work.
        match &*self.0 {
            Sink::Bars(bars) => bars.suspend(|| drop(writeln!(io::stderr(), "{line}"))),
            Sink::Lines(writer) => drop(writeln!(writer.lock().unwrap_or_else(PoisonError::into_inner), "{line}")),
            Sink::Log => tracing::info!("{line}"),
            Sink::Silent => {}
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.0 {
            Sink::Bars(_) => "Progress::Bars",
            Sink::Lines(_) => "Progress::Lines",
            Sink::Log => "Progress::Log",
            Sink::Silent => "Progress::Silent",
        })
    }
}

impl Task {
    /// Adds `more` units to the amount done.
    pub fn advance(&self, more: u64) {
        match &self.output {
            Output::Bar(bar) => bar.inc(more),
            Output::Lines(count) => {
                let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
                count.done = count.done.saturating_add(more);
                self.print(&mut count);
            }
        }
    }

    /// Sets the amount done.
    pub fn set(&self, done: u64) {
        match &self.output {
            Output::Bar(bar) => bar.set_position(done),
            Output::Lines(count) => {
                let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
                count.done = done;
                self.print(&mut count);
            }
        }
    }

    /// Ends the task and prints how much was done and how long it took.
    pub fn finish(self) {
        let done = match &self.output {
            Output::Bar(bar) => {
                let done = bar.position();
                bar.finish_and_clear();
                done
            }
            Output::Lines(count) => count.lock().unwrap_or_else(PoisonError::into_inner).done,
        };
        let amount = self.unit.amount(done);
        let seconds = self.started.elapsed().as_secs_f64();
        self.progress.note(&format!("{}: {amount} in {seconds:.1} s", self.what));
    }

    /// Prints a line if one is due.
    fn print(&self, count: &mut Count) {
        let gained = count.done.saturating_sub(count.printed);
        let is_all = count.total.is_some_and(|total| count.done >= total); // `finish` prints that line
        if is_all || !line_is_due(count.printed_at.elapsed(), gained, count.total) {
            return;
        }
        let amount = self.unit.amount(count.done);
        let line = match count.total {
            Some(total) if total > 0 && count.done <= total => {
                format!("{}: {amount} of {} ({} %)", self.what, self.unit.amount(total), count.done * 100 / total)
            }
            _ => format!("{}: {amount} in {}", self.what, HumanDuration(self.started.elapsed())),
        };
        self.progress.note(&line);
        count.printed = count.done;
        count.printed_at = Instant::now();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Output::Bar(bar) = &self.output {
            bar.finish_and_clear();
        }
    }
}

/// A line is due every few seconds if there is progress, and after each quarter of the total unless the task is fast.
fn line_is_due(since: Duration, gained: u64, total: Option<u64>) -> bool {
    let quarter = total.is_some_and(|total| total > 0 && gained >= total.div_ceil(4));
    gained > 0 && (since >= LINE_INTERVAL || (quarter && since >= QUARTER_INTERVAL))
}

impl Unit {
    fn amount(self, count: u64) -> String {
        match self {
            Self::Bytes => bytes(count),
            Self::Steps => count.to_string(),
        }
    }
}

/// A human-readable number of bytes, in powers of 1000: `404.4 MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut amount = count as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would be printed as 1000.0.
    while amount >= 999.95 && unit + 1 < UNITS.len() {
        amount /= 1000.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

fn template(total_is_known: bool, unit: Unit) -> &'static str {
    match (total_is_known, unit) {
        (true, Unit::Bytes) => {
            "{msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta_precise}"
        }
        (false, Unit::Bytes) => "{msg} {spinner} {decimal_bytes} {decimal_bytes_per_sec} {elapsed_precise}",
        (true, Unit::Steps) => "{msg} [{bar:30}] {pos}/{len} {eta_precise}",
        (false, Unit::Steps) => "{msg} {spinner} {pos} {elapsed_precise}",
    }
}

fn style(total_is_known: bool, unit: Unit) -> ProgressStyle {
    let style = ProgressStyle::with_template(template(total_is_known, unit));
    // A test parses all templates, so the fallback is only a precaution.
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

#[cfg(test)]
mod tests;
