use super::*;
use crate::config::resolve::tests::sources;
use crate::config::{Settings, Sources};

/// Prints the configuration and checks that the output results in the same settings.
fn round_trip(sources: &Sources) -> String {
    let first = Configuration::resolve(sources).expect("valid");
    let printed = first.to_toml();
    let file = Some(("printed.toml".into(), printed.clone()));
    let second = Settings::resolve(&Sources { file, ..Sources::default() });
    assert_eq!(second.as_ref(), Ok(&first.settings), "{printed}");
    printed
}

#[test]
fn the_printed_configuration_results_in_the_same_settings() {
    let printed = round_trip(&Sources::default());
    assert!(printed.contains("\nmax_texts = 256 # default\n"), "{printed}");
    assert!(printed.contains("\nreflection = true # default\n"), "{printed}");
    assert!(printed.contains("\n# Network\nlisten = \"[::]:50051\" # default\n"), "{printed}");

    let file = "max_tokens = 128\nsessions = 0x2\nmax_texts = '1'\nreflection = 'no'";
    let env = [("EMBEDD_THREADS", "+2"), ("EMBEDD_LOG_LEVEL", "info,embedd::batch=debug"), ("EMBEDD_HOME", "123")];
    let flags = [("bundle", "/a \"b\"\\c\n\u{7f}ü"), ("drain_timeout", "1m"), ("offline", "true")];
    let printed = round_trip(&sources(&flags, &env, file));
    assert!(printed.contains("max_tokens = 128 # file `embedd.toml` 1:14\n"), "{printed}");
    assert!(printed.contains("home = \"123\" # variable `EMBEDD_HOME`\n"), "{printed}");
    assert!(printed.contains("offline = true # flag `--offline`\n"), "{printed}");
}

#[test]
fn a_path_with_a_newline_cannot_escape_its_comment() {
    let file = Some(("a\nthreads = 7 #.toml".into(), "max_texts = 5".to_owned()));
    round_trip(&Sources { file, ..Sources::default() });
}

#[test]
fn a_bundle_that_a_model_overrides_is_not_printed() {
    let printed = round_trip(&sources(&[("model", "a/b")], &[("EMBEDD_BUNDLE", "/x")], ""));
    assert!(printed.contains("bundle = \"none\" # default"), "{printed}");
}

#[test]
fn a_model_that_a_bundle_overrides_is_not_printed() {
    round_trip(&sources(&[("bundle", "/x")], &[("EMBEDD_MODEL", "a/b")], ""));
}

#[test]
fn the_summary_lists_settings_that_are_not_defaults() {
    let configuration = |sources| Configuration::resolve(&sources).expect("valid");
    assert_eq!(configuration(Sources::default()).summary(), "defaults only");
    let both = configuration(sources(&[("threads", "2")], &[("EMBEDD_ENGINE", "fp32")], ""));
    assert_eq!(both.summary(), "engine = `fp32` (variable `EMBEDD_ENGINE`), threads = `2` (flag `--threads`)");
    assert_eq!(both.effective().len(), TABLE.len());
}
