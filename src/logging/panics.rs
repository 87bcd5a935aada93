//! A panic as a log line, without what it formatted: `x[..5]` inside of a character, for one, quotes all of `x`.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{Location, PanicHookInfo};

const WITHHELD: &str = "(not told: it may quote a text)";

/// Logs the panics of this process from now on, in place of the message on stderr.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let (thread, backtrace) = (std::thread::current(), Backtrace::capture());
    tracing::error!(
        location = panic.location().map(Location::to_string),
        thread = thread.name(),
        reason = reason(panic.payload()),
        // Of functions and lines; there where RUST_BACKTRACE asks for it.
        backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string()),
        "panic"
    );
}

/// Only what stands in the program as it is.
fn reason(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or(WITHHELD)
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    fn told(panics: fn(&str)) -> &'static str {
        let text = std::hint::black_box("a sécret");
        reason(&*catch_unwind(|| panics(text)).expect_err("a panic"))
    }

    #[test]
    fn a_panic_tells_what_the_program_says_and_not_what_it_formatted() {
        assert_eq!(told(|_| panic!("a bug")), "a bug");
        assert_eq!(told(|text| panic!("{text}")), WITHHELD);
        assert_eq!(told(|text| drop(text[..4].to_owned())), WITHHELD);
        assert_eq!(told(|text| assert_eq!(text, "another", "a reason")), WITHHELD);
        assert_eq!(told(|text| std::panic::panic_any(text.len())), WITHHELD);
    }
}
