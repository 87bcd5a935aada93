//! Progress of long work, told on standard error: bars on a terminal, plain lines or log lines elsewhere.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

/// A task that goes on tells of itself at least this often in a log.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// A task that is fast enough to pass every quarter in less than this is told of at its start and end only.
const QUARTER_INTERVAL: Duration = Duration::from_secs(1);
/// How often a bar is redrawn even if nothing moves, so that its clock runs.
const TICK: Duration = Duration::from_millis(200);

/// Where progress is told. Clones tell it to the same place.
#[derive(Clone)]
pub struct Progress(Arc<Sink>);

enum Sink {
    Bars(MultiProgress),
    Lines(Mutex<Box<dyn Write + Send>>),
    Log,
    Silent,
}

/// What a task counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, told as kB, MB and GB (powers of 1000).
    Bytes,
    /// Anything else: layers, texts, runs.
    Steps,
}

/// One piece of work under way. Dropped before [`Task::finish`], it leaves nothing on the terminal.
#[derive(Debug)]
pub struct Task {
    what: String,
    unit: Unit,
    progress: Progress,
    started: Instant,
    teller: Teller,
}

#[derive(Debug)]
enum Teller {
    Bar(ProgressBar),
    Lines(Mutex<Told>),
}

/// What has been done and what of it has been told.
#[derive(Debug)]
struct Told {
    done: u64,
    total: Option<u64>,
    told: u64,
    told_at: Instant,
}

impl Progress {
    /// Bars if standard error is a terminal, else plain lines.
    pub fn auto() -> Self {
        Self::bars().unwrap_or_else(Self::plain)
    }

    /// Bars if standard error is a terminal, else lines of the log, whose form others rely on.
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

    /// Nothing at all.
    pub fn silent() -> Self {
        Self(Arc::new(Sink::Silent))
    }

    /// Plain lines into `writer`.
    pub(crate) fn lines_to(writer: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Sink::Lines(Mutex::new(writer))))
    }

    /// Begins a task. `what` is told as it is ("fetching the runtime"); `total` is how much there is, if that is known.
    pub fn task(&self, what: &str, total: Option<u64>, unit: Unit) -> Task {
        let started = Instant::now();
        let teller = if let Sink::Bars(bars) = &*self.0 {
            let bar = bars.add(ProgressBar::no_length().with_style(style(total.is_some(), unit)));
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_message(what.to_owned());
            bar.enable_steady_tick(TICK);
            Teller::Bar(bar)
        } else {
            let of = total.map_or_else(String::new, |total| format!(" ({})", unit.amount(total)));
            self.note(&format!("{what}{of}"));
            Teller::Lines(Mutex::new(Told { done: 0, total, told: 0, told_at: started }))
        };
        Task { what: what.to_owned(), unit, progress: self.clone(), started, teller }
    }

    /// Tells one line.
    pub fn note(&self, line: &str) {
        // Standard error that is closed is no reason to stop the work that is told of.
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
    /// `more` units are done.
    pub fn advance(&self, more: u64) {
        match &self.teller {
            Teller::Bar(bar) => bar.inc(more),
            Teller::Lines(told) => {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                told.done = told.done.saturating_add(more);
                self.tell(&mut told);
            }
        }
    }

    /// `done` units are done in all.
    pub fn set(&self, done: u64) {
        match &self.teller {
            Teller::Bar(bar) => bar.set_position(done),
            Teller::Lines(told) => {
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                told.done = done;
                self.tell(&mut told);
            }
        }
    }

    /// The work is done: tells how much it was and how long it took.
    pub fn finish(self) {
        let done = match &self.teller {
            Teller::Bar(bar) => {
                let done = bar.position();
                bar.finish_and_clear();
                done
            }
            Teller::Lines(told) => told.lock().unwrap_or_else(PoisonError::into_inner).done,
        };
        let (amount, seconds) = (self.unit.amount(done), self.started.elapsed().as_secs_f64());
        self.progress.note(&format!("{}: {amount} in {seconds:.1} s", self.what));
    }

    fn tell(&self, told: &mut Told) {
        let gained = told.done.saturating_sub(told.told);
        let is_all = told.total.is_some_and(|total| told.done >= total); // the last line will tell that
        if is_all || !line_is_due(told.told_at.elapsed(), gained, told.total) {
            return;
        }
        let amount = self.unit.amount(told.done);
        let line = match told.total {
            Some(total) if total > 0 && told.done <= total => {
                format!("{}: {amount} of {} ({} %)", self.what, self.unit.amount(total), told.done * 100 / total)
            }
            _ => format!("{}: {amount} in {}", self.what, HumanDuration(self.started.elapsed())),
        };
        self.progress.note(&line);
        (told.told, told.told_at) = (told.done, Instant::now());
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Teller::Bar(bar) = &self.teller {
            bar.finish_and_clear();
        }
    }
}

/// Every few seconds where something moves, and at a quarter of the whole, but not every quarter of what is fast.
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

/// `count` bytes as people read them, in powers of 1000: `404.4 MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut amount = count as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would be told as 1000.0.
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
    // The templates are constants that a test parses; a bar of another look is better than none.
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

#[cfg(test)]
mod tests;
