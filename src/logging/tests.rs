use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::*;

/// Collects log lines for the test to read.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("one test at a time").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(style: Style, filter: &str, log: impl FnOnce()) -> String {
    let lines = Lines::default();
    let filter = filter.parse().expect("valid");
    let writer = lines.clone();
    let subscriber = subscriber(style, &filter, move || writer.clone());
    tracing::subscriber::with_default(subscriber, log);
    let bytes = lines.0.lock().expect("one test at a time").clone();
    String::from_utf8(bytes).expect("text")
}

#[test]
fn auto_is_text_on_a_terminal_and_json_elsewhere() {
    for (format, terminal, no_color, expected) in [
        (LogFormat::Auto, true, false, Style::Colored),
        (LogFormat::Auto, true, true, Style::Plain),
        (LogFormat::Auto, false, false, Style::Json),
        (LogFormat::Text, true, false, Style::Colored),
        (LogFormat::Text, true, true, Style::Plain),
        (LogFormat::Text, false, false, Style::Plain),
        (LogFormat::Json, true, false, Style::Json),
        (LogFormat::Json, false, true, Style::Json),
    ] {
        assert_eq!(style(format, terminal, no_color), expected, "{format:?} {terminal} {no_color}");
    }
}

#[test]
fn a_json_line_has_time_level_target_message_and_top_level_fields() {
    let text = written(Style::Json, "info", || {
        tracing::warn!(target: "embedd::batch", texts = 3, stage = "queue", "queue is \"full\"\n");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["target"], "embedd::batch");
    assert_eq!(line["message"], "queue is \"full\"\n");
    assert_eq!((line["texts"].as_u64(), line["stage"].as_str()), (Some(3), Some("queue")));
    let time = line["timestamp"].as_str().expect("a time");
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z");
}

#[test]
fn only_the_colored_style_has_colors() {
    let log = || tracing::info!(answer = 42, "ready");
    let plain = written(Style::Plain, "info", log);
    assert!(plain.contains("ready") && plain.contains("answer=42") && !plain.contains('\u{1b}'), "{plain:?}");
    assert!(written(Style::Colored, "info", log).contains('\u{1b}'));
}

#[test]
fn info_includes_only_warnings_of_verbose_libraries() {
    let text = written(Style::Plain, "info", || {
        tracing::info!(target: "tokenizers::models", "a token");
        tracing::warn!(target: "tokenizers::models", "a broken token");
        tracing::warn!(target: "h2::proto", "a warning that peers cause at will");
        tracing::info!(target: "embedd::app", "listening");
        tracing::debug!(target: "embedd::app", "detail");
    });
    assert!(text.contains("broken token") && text.contains("listening"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn a_named_module_has_its_own_level() {
    let text = written(Style::Plain, "warn,embedd::batch=debug", || {
        tracing::debug!(target: "embedd::batch", "one");
        tracing::info!(target: "embedd::app", "two");
    });
    assert!(text.contains("one") && !text.contains("two"), "{text}");
}

#[test]
fn a_library_that_quotes_texts_is_never_logged_at_trace() {
    for filter in ["trace", "trace,tokenizers=trace", "trace,tokenizers::tokenizer=trace"] {
        let text = written(Style::Plain, filter, || {
            tracing::trace!(target: "tokenizers::tokenizer::normalizer", "a character");
            tracing::warn!(target: "tokenizers::models", "a hole");
            tracing::trace!(target: "embedd::batch", "detail");
        });
        assert!(!text.contains("character") && text.contains("hole") && text.contains("detail"), "{text}");
    }
}
