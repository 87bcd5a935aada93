//! Logs panics without formatted messages, which may quote a text: slicing `x[..5]` inside a character quotes all of
//! `x`.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{Location, PanicHookInfo};

const WITHHELD: &str = "(withheld: it may quote a text)";

/// From now on, logs the panics of this process instead of printing them to stderr.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    tracing::error!(
        location = panic.location().map(Location::to_string),
        thread = thread.name(),
        reason = reason(panic.payload()),
        // Functions and lines, if RUST_BACKTRACE asks for them.
        backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string()),
        "panic"
    );
}

/// The message, if it is a literal in the program.
fn reason(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or(WITHHELD)
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    fn logged(panics: fn(&str)) -> &'static str {
        let text = std::hint::black_box("a sécret");
        reason(&*catch_unwind(|| panics(text)).expect_err("a panic"))
    }

    #[test]
    fn literal_panic_messages_are_logged_and_formatted_ones_are_not() {
        assert_eq!(logged(|_| panic!("a bug")), "a bug");
        assert_eq!(logged(|text| panic!("{text}")), WITHHELD);
        assert_eq!(logged(|text| drop(text[..4].to_owned())), WITHHELD);
        assert_eq!(logged(|text| assert_eq!(text, "another", "a reason")), WITHHELD);
        assert_eq!(logged(|text| std::panic::panic_any(text.len())), WITHHELD);
    }
}
