use std::path::PathBuf;

use super::*;
use crate::config::{ConfigErrors, Settings, Sources};

fn resolve(text: &str) -> Result<Settings, ConfigErrors> {
    let file = Some((PathBuf::from("etc/embedd.toml"), text.to_owned()));
    Settings::resolve(&Sources { file, ..Sources::default() })
}

fn message(text: &str) -> String {
    resolve(text).expect_err("a mistake").to_string()
}

#[test]
fn values_have_their_natural_type_or_are_text() {
    let text = "max_texts = 1_000\nthreads = '2'\nsessions = 0x10\nreflection = false\noffline = 'true'\n\
                max_text_bytes = '1 KiB'\nmax_message_bytes = 4096\nshutdown_grace = '1s'";
    let settings = resolve(text).expect("valid");
    assert_eq!(settings.max_texts.get(), 1000);
    assert_eq!(settings.threads.map(usize::from), Some(2));
    assert_eq!(settings.sessions.map(usize::from), Some(16));
    assert_eq!((settings.reflection, settings.offline), (false, true));
    assert_eq!((settings.max_text_bytes.get(), settings.max_message_bytes.get()), (1024, 4096));
}

#[test]
fn a_value_of_another_type_is_reported_with_its_position_and_an_example() {
    for (text, part) in [
        (
            "shutdown_grace = 2",
            "shutdown-grace = `2` (file `etc/embedd.toml` 1:18): expected text in quotes, such as `\"2s\"`",
        ),
        ("\n  threads = 1.5", "threads = `1.5` (file `etc/embedd.toml` 2:13): expected a whole number"),
        ("threads = true", "expected a number, or text in quotes such as `\"auto\"`"),
        ("trace_ratio = 1.5", "trace-ratio = `1.5` (file `etc/embedd.toml` 1:15): expected a number from 0 to 1"),
        ("reflection = 1", "expected `true` or `false`"),
        ("listen = ['a', 'b']", "listen = `['a', 'b']`"),
        ("bundle = 2024-01-01", "bundle = `2024-01-01`"),
        ("model = { a = 1 }", "model = `{ a = 1 }`"),
    ] {
        assert!(message(text).contains(part), "{part}\n{}", message(text));
    }
}

#[test]
fn an_unknown_key_is_reported_with_its_position_and_a_suggestion() {
    assert!(message("\n'max-tokens' = 5").contains("max-tokens: no such setting (file `etc/embedd.toml` 2:1)"));
    assert!(message("max-tokens = 5").contains("did you mean `max_tokens`?"));
    assert!(message("[serve]\nthreads = 1").contains("serve: no such setting (file `etc/embedd.toml` 1:2); remove it"));
}

#[test]
fn mistakes_are_listed_in_the_order_of_the_file() {
    let text = message("zzz = 1\naaa = 1");
    assert!(text.find("zzz") < text.find("aaa"), "{text}");
}

#[test]
fn every_syntax_error_is_reported_with_line_and_column() {
    let text = message("threads = 1\nlisten = = 'x'\nengine = 'auto\n");
    assert!(text.contains("file `etc/embedd.toml` 2:") && text.contains("is not valid TOML"), "{text}");
    assert!(text.contains("file `etc/embedd.toml` 3:"), "{text}");
    assert!(
        message("threads = 1\nthreads = 2").contains("file `etc/embedd.toml` 2:1 is not valid TOML: duplicate key")
    );
    assert!(message("threads =").contains("1:10"));
}

#[test]
fn rules_are_skipped_if_the_file_is_not_valid_toml() {
    // The file may be meant to raise max_message_bytes.
    let flags = [("max_text_bytes", "16MiB".to_owned())].into();
    let file = Some((PathBuf::from("a.toml"), "max_message_bytes == '32MiB'".to_owned()));
    let errors = Settings::resolve(&Sources { flags, file, ..Sources::default() }).expect_err("invalid TOML");
    assert!(errors.mistakes().iter().all(|mistake| matches!(mistake, Mistake::Syntax { .. })), "{errors}");
}

#[test]
fn columns_count_characters() {
    assert_eq!(line_and_column("a\nüb", "a\nü".len()), (2, 2));
    assert_eq!(line_and_column("", 0), (1, 1));
    assert_eq!(line_and_column("a\n", 2), (2, 1));
}

#[test]
fn an_empty_file_and_one_with_a_byte_order_mark_are_fine() {
    assert!(resolve("").is_ok());
    assert!(resolve("\u{feff}threads = 1\r\n").is_ok());
}
