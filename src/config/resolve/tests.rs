use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::*;
use crate::config::{EngineChoice, LogFormat, Setting, TABLE};
use embedd_model::tokenize::Truncation;

/// Sources from flags, variables and the text of a file.
pub(in crate::config) fn sources(flags: &[(&'static str, &str)], env: &[(&str, &str)], file: &str) -> Sources {
    Sources {
        flags: flags.iter().map(|(key, text)| (*key, (*text).to_owned())).collect(),
        env: env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        file: Some(("embedd.toml".into(), file.to_owned())),
    }
}

fn message(sources: &Sources) -> String {
    Settings::resolve(sources).expect_err("a mistake").to_string()
}

#[test]
fn without_sources_every_setting_has_its_default() {
    let settings = Settings::resolve(&Sources::default()).expect("defaults are valid");
    assert_eq!(settings.model.to_string(), embedd_fetch::model_ref::DEFAULT_MODEL);
    assert_eq!((&settings.bundle, &settings.home, &settings.onnxruntime), (&None, &None, &None));
    assert_eq!(settings.listen.to_string(), "[::]:50051");
    assert_eq!(settings.admin_listen.map(|admin| admin.to_string()), Some("127.0.0.1:50052".to_owned()));
    assert_eq!((settings.health_listen, &settings.tls_certificate, &settings.token_file), (None, &None, &None));
    let connections = [settings.max_connections, settings.max_concurrent_streams, settings.max_header_bytes];
    assert_eq!(connections.map(NonZeroUsize::get), [900, 256, 16 << 10]);
    assert_eq!(settings.keepalive_interval, Some(Duration::from_secs(60)));
    assert_eq!(settings.keepalive_timeout, Duration::from_secs(20));
    assert_eq!(settings.max_connection_age, Some(Duration::from_secs(600)));
    assert_eq!(settings.max_connection_age_grace, Some(Duration::from_secs(300)));
    assert_eq!((settings.engine, settings.truncation), (EngineChoice::Auto, Truncation::End));
    assert_eq!((settings.sessions, settings.threads, settings.max_tokens), (None, None, None));
    let sizes = [settings.max_texts, settings.max_text_bytes, settings.max_message_bytes].map(NonZeroUsize::get);
    assert_eq!(sizes, [256, 64 << 10, 8 << 20]);
    assert_eq!((settings.batch_tokens, settings.batch_texts), (None, None));
    assert_eq!((settings.queue_requests, settings.queue_total_texts.get()), (None, 4096));
    assert_eq!(settings.cache_bytes.map(NonZeroUsize::get), Some(64 << 20));
    assert_eq!(settings.cache_ttl, Some(Duration::from_secs(3600)));
    assert_eq!((settings.reflection, settings.offline), (true, false));
    assert_eq!(settings.shutdown_grace, Duration::from_secs(2));
    assert_eq!(settings.drain_timeout, Duration::from_secs(25));
    assert_eq!((settings.log_format, settings.log_level.to_string()), (LogFormat::Auto, "info".to_owned()));
}

#[test]
fn flags_override_variables_and_variables_override_the_file() {
    let file = "max_texts = 1\nthreads = 1\nsessions = 1";
    let env = [("EMBEDD_THREADS", "2"), ("EMBEDD_SESSIONS", "2")];
    let settings = Settings::resolve(&sources(&[("sessions", "3")], &env, file)).expect("valid");
    assert_eq!(settings.max_texts.get(), 1);
    assert_eq!(settings.threads.map(NonZeroUsize::get), Some(2));
    assert_eq!(settings.sessions.map(NonZeroUsize::get), Some(3));
}

#[test]
fn a_stronger_source_can_restore_a_default() {
    let file = "max_tokens = 128\nadmin_listen = 'off'";
    let settings = Settings::resolve(&sources(&[("max_tokens", "auto")], &[], file)).expect("valid");
    assert_eq!((settings.max_tokens, settings.admin_listen), (None, None));
}

#[test]
fn all_mistakes_of_all_sources_are_reported_at_once() {
    let file = "max_text = 5\nthreads = 0\n";
    let env = [("EMBEDD_LISTEN", "localhost"), ("EMBEDD_ENGIN", "auto")];
    let flags = [("max_tokens", "900000"), ("log_level", "loud")];
    let errors = Settings::resolve(&sources(&flags, &env, file)).expect_err("six mistakes");
    assert_eq!(errors.mistakes().len(), 6, "{errors}");
    let text = errors.to_string();
    for part in [
        "the configuration has 6 mistakes:",
        "max-tokens = `900000` (flag `--max-tokens`): expected a whole number from 3 to 131072, or `auto`",
        "log-level = `loud` (flag `--log-level`): expected a level",
        "listen = `localhost` (variable `EMBEDD_LISTEN`): expected an IP address",
        "EMBEDD_ENGIN: no such setting (variable `EMBEDD_ENGIN`); did you mean `EMBEDD_ENGINE`?",
        "max_text: no such setting (file `embedd.toml` 1:1); did you mean `max_texts`?",
        "threads = `0` (file `embedd.toml` 2:11): expected a whole number from 1 to 1024, or `auto`",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(text.contains("\n  6. "), "{text}");
}

#[test]
fn an_overridden_value_is_checked_too() {
    let text = message(&sources(&[("threads", "2")], &[("EMBEDD_THREADS", "two")], ""));
    assert!(text.contains("variable `EMBEDD_THREADS`") && text.contains("has a mistake"), "{text}");
}

#[test]
fn a_long_value_or_one_with_control_characters_stays_on_one_short_line() {
    let text = message(&sources(&[("engine", &format!("a\nb\u{1b}[31m{}", "x".repeat(1000)))], &[], ""));
    assert!(text.contains("a\\nb\\u{1b}[31mxxx") && text.contains("...`") && text.len() < 400, "{text}");
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn an_unknown_flag_is_reported() {
    assert!(message(&sources(&[("max-tokens", "1")], &[], "")).contains("did you mean `max_tokens`?"));
}

#[test]
fn every_default_is_valid_text() {
    for setting in TABLE {
        let flags = [(setting.key, setting.default)];
        assert_eq!(
            Settings::resolve(&sources(&flags, &[], "")),
            Settings::resolve(&Sources::default()),
            "{}",
            setting.key
        );
    }
}

#[test]
fn names_are_derived_from_the_key_and_no_two_settings_share_one() {
    let setting = by_key("max_tokens").expect("a setting");
    assert_eq!((setting.flag(), setting.variable()), ("--max-tokens".to_owned(), "EMBEDD_MAX_TOKENS".to_owned()));
    let keys: BTreeSet<_> = TABLE.iter().map(|setting| setting.key).collect();
    assert_eq!(keys.len(), TABLE.len());
    assert!(TABLE.iter().all(|setting| setting.help().len() > 10 && setting.help().ends_with('.')));
    assert_eq!(by_key("home").map(Setting::variable).as_deref(), Some(embedd_fetch::home::HOME_VARIABLE));
}
