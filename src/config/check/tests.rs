use super::*;
use crate::config::resolve::tests::sources;

fn resolve(flags: &[(&'static str, &str)], env: &[(&str, &str)], file: &str) -> Result<Configuration, String> {
    Configuration::resolve(&sources(flags, env, file)).map_err(|errors| errors.to_string())
}

#[test]
fn a_text_must_fit_into_a_message() {
    assert!(resolve(&[("max_text_bytes", "8MiB")], &[], "").is_ok());
    let text = resolve(&[("max_text_bytes", "9MiB")], &[], "").expect_err("too large");
    assert!(
        text.contains(
            "max-text-bytes = `9MiB` (flag `--max-text-bytes`) and max-message-bytes = `8MiB` (default): a text"
        ),
        "{text}"
    );
}

#[test]
fn the_largest_request_must_fit_into_the_queue() {
    assert!(resolve(&[("queue_total_texts", "256")], &[], "").is_ok());
    assert!(resolve(&[("queue_total_texts", "255")], &[], "").is_err());
}

#[test]
fn gpus_do_not_run_int8_engines() {
    for (engine, fine) in [("auto", true), ("fp16", true), ("fp32", true), ("portable", false), ("native", false)] {
        assert!(resolve(&[("engine", engine)], &[], "").is_ok(), "{engine} on the CPU");
        assert_eq!(resolve(&[("engine", engine), ("device", "cuda:1")], &[], "").is_ok(), fine, "{engine} on a GPU");
    }
    let text = resolve(&[("engine", "native")], &[("EMBEDD_DEVICE", "cuda")], "").expect_err("INT8 on a GPU");
    assert!(text.contains("engine = `native`") && text.contains("device = `cuda`"), "{text}");
}

#[test]
fn listeners_do_not_share_an_address() {
    for (listen, admin, fine) in [
        ("0.0.0.0:1", "127.0.0.1:1", false),
        ("127.0.0.1:1", "127.0.0.1:1", false),
        ("[::]:1", "127.0.0.1:1", false),
        ("127.0.0.1:0", "127.0.0.1:0", true),
        ("127.0.0.1:1", "127.0.0.1:2", true),
        ("127.0.0.2:1", "127.0.0.1:1", true),
        ("0.0.0.0:50052", "off", true),
    ] {
        let flags = [("listen", listen), ("admin_listen", admin)];
        assert_eq!(resolve(&flags, &[], "").is_ok(), fine, "{listen} {admin}");
    }
}

#[test]
fn health_and_http_need_their_own_addresses() {
    for key in ["health_listen", "http_listen"] {
        for (address, fine) in [("0.0.0.0:50051", false), ("127.0.0.1:50052", false), ("0.0.0.0:50053", true)] {
            assert_eq!(resolve(&[(key, address)], &[], "").is_ok(), fine, "{key} {address}");
        }
    }
    assert!(resolve(&[("health_listen", "127.0.0.1:9090")], &[], "").is_err());
    assert!(resolve(&[("health_listen", "127.0.0.1:9090"), ("http_listen", "off")], &[], "").is_ok());
}

#[test]
fn the_admin_service_needs_authentication_beyond_loopback() {
    let tls = [("admin_tls_certificate", "c.pem"), ("admin_tls_key", "k.pem")];
    for address in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
        let open = [("admin_listen", address)];
        let text = resolve(&open, &[], "").expect_err(address);
        assert!(text.contains("admin-listen = ") && text.contains("admin-token-file = `auto`"), "{text}");
        assert!(resolve(&[&open[..], &tls[..]].concat(), &[], "").is_err(), "TLS alone authenticates nobody");
        assert!(resolve(&[&open[..], &[("admin_token_file", "none")]].concat(), &[], "").is_err());
        assert!(resolve(&[&open[..], &[("admin_token_file", "t")]].concat(), &[], "").is_ok());
        let authenticated = [&open[..], &tls[..], &[("admin_tls_client_ca", "ca.pem")]].concat();
        assert!(resolve(&authenticated, &[], "").is_ok());
    }
    for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "off"] {
        assert!(resolve(&[("admin_listen", address)], &[], "").is_ok(), "{address}");
    }
}

#[test]
fn certificates_keys_and_client_authorities_go_together() {
    for (flags, parts) in [
        (&[("tls_certificate", "c.pem")][..], ["tls-certificate = `c.pem`", "tls-key = `none`"]),
        (&[("tls_key", "k.pem")], ["tls-key = `k.pem`", "tls-certificate = `none`"]),
        (&[("tls_client_ca", "ca.pem")], ["tls-client-ca = `ca.pem`", "tls-certificate = `none`"]),
        (&[("admin_tls_certificate", "c.pem")], ["admin-tls-certificate = `c.pem`", "admin-tls-key = `none`"]),
        (&[("admin_tls_key", "k.pem")], ["admin-tls-key = `k.pem`", "admin-tls-certificate = `none`"]),
        (&[("admin_tls_client_ca", "ca.pem")], ["admin-tls-client-ca", "admin-tls-certificate = `none`"]),
    ] {
        let text = resolve(flags, &[], "").expect_err("half of it");
        assert!(parts.iter().all(|part| text.contains(part)) && text.contains("has a mistake"), "{text}");
    }
    let whole = [("tls_certificate", "c.pem"), ("tls_key", "k.pem"), ("tls_client_ca", "ca.pem")];
    assert!(resolve(&whole, &[], "").is_ok());
}

#[test]
fn unencrypted_tokens_cause_a_warning() {
    let tls = [("tls_certificate", "c.pem"), ("tls_key", "k.pem")];
    let tokens = ("token_file", "t");
    for (flags, warned) in [
        (vec![tokens], true),
        (vec![tokens, ("listen", "127.0.0.1:1")], false),
        ([&[tokens], &tls[..]].concat(), false),
        (vec![("admin_token_file", "t")], false),
        (vec![("admin_token_file", "t"), ("admin_listen", "0.0.0.0:1")], true),
    ] {
        let warnings = resolve(&flags, &[], "").expect("valid").warnings(NonZeroUsize::MIN);
        assert_eq!(
            warnings.iter().any(|warning| warning.contains("tokens are sent unencrypted")),
            warned,
            "{flags:?} {warnings:?}"
        );
    }
}

#[test]
fn the_apis_of_the_http_port_do_not_bypass_client_certificates() {
    let on = ("http_api", "on");
    let tls = [("tls_certificate", "c.pem"), ("tls_key", "k.pem")];
    let mutual = [&tls[..], &[("tls_client_ca", "ca.pem")]].concat();
    let text = resolve(&[&[on], &mutual[..]].concat(), &[], "").expect_err("no certificate is needed there");
    assert!(text.contains("http-api = `on`") && text.contains("tls-client-ca = `ca.pem`"), "{text}");
    assert!(resolve(&mutual, &[], "").is_ok(), "`auto` turns it off");
    assert!(resolve(&[&[on, ("token_file", "t")], &mutual[..]].concat(), &[], "").is_ok());
    let text = resolve(&[on, ("http_listen", "off")], &[], "").expect_err("no port for it");
    assert!(text.contains("http-listen = `off`"), "{text}");

    for (http, warned) in [("0.0.0.0:9090", true), ("127.0.0.1:9090", false)] {
        let flags = [&[on, ("http_listen", http)], &tls[..]].concat();
        let warnings = resolve(&flags, &[], "").expect("valid").warnings(NonZeroUsize::MIN);
        assert_eq!(
            warnings.iter().any(|warning| warning.contains("texts and tokens are sent unencrypted")),
            warned,
            "{http}"
        );
    }
}

#[test]
fn rules_about_an_invalid_value_are_skipped_and_others_are_not() {
    let flags = [("max_text_bytes", "9MiB"), ("max_message_bytes", "lots"), ("queue_total_texts", "1")];
    let text = resolve(&flags, &[], "").expect_err("two mistakes");
    assert!(text.contains("2 mistakes") && text.contains("`lots`") && text.contains("queue-total-texts"), "{text}");
}

#[test]
fn the_stronger_source_decides_between_bundle_and_model() {
    let built_in = [("EMBEDD_BUNDLE", "/bundle")];
    let named = resolve(&[("model", "a/b")], &built_in, "").expect("valid");
    assert_eq!((named.settings.bundle.as_ref(), named.settings.model.to_string().as_str()), (None, "a/b"));
    let [warning] = &named.warnings(NonZeroUsize::MIN)[..] else { panic!("one warning") };
    assert!(
        warning.contains("bundle = `/bundle` (variable `EMBEDD_BUNDLE`) is overridden by model = `a/b`"),
        "{warning}"
    );

    let bundle = resolve(&[("bundle", "/mine")], &[("EMBEDD_MODEL", "a/b")], "").expect("valid");
    assert_eq!(bundle.settings.bundle, Some("/mine".into()));
    assert_eq!(bundle.warnings(NonZeroUsize::MIN).len(), 1);
}

#[test]
fn bundle_and_model_from_one_source_conflict_unless_the_model_is_the_default() {
    let text = resolve(&[], &[("EMBEDD_BUNDLE", "/bundle"), ("EMBEDD_MODEL", "a/b")], "").expect_err("both");
    assert!(text.contains("set only one"), "{text}");
    assert!(resolve(&[("bundle", "none"), ("model", "a/b")], &[], "").is_ok());
    let default = resolve(&[("bundle", "/b"), ("model", DEFAULT_MODEL)], &[], "").expect("valid");
    assert_eq!(default.settings.bundle, Some("/b".into()));
}

#[test]
fn the_revision_is_part_of_the_model() {
    let settings =
        |flags: &[(&'static str, &str)], env: &[(&str, &str)]| resolve(flags, env, "").expect("valid").settings;
    assert_eq!(settings(&[("model", "a/b")], &[]).model.to_string(), "a/b");
    assert_eq!(
        settings(&[("model", "a/b"), ("revision", "main")], &[]).model,
        settings(&[("model", "a/b")], &[]).model
    );
    let pull_request = settings(&[("model", "a/b")], &[("EMBEDD_REVISION", "refs/pr/3")]);
    assert_eq!(pull_request.model.to_string(), "a/b@refs/pr/3");
    let of_default = settings(&[("revision", "v1")], &[]);
    assert_eq!(of_default.model.to_string(), format!("{DEFAULT_MODEL}@v1"));
    for text in ["a b", "a/../b", "a\u{7}b", &"v".repeat(257)] {
        let error = resolve(&[("revision", text)], &[], "").expect_err("not a revision");
        assert!(error.contains("the name of a branch, a tag, a commit"), "{error}");
    }
}

#[test]
fn a_revision_of_a_folder_or_of_a_bundle_is_a_mistake() {
    let text = resolve(&[("model", "/models/mine"), ("revision", "v1")], &[], "").expect_err("a folder");
    assert!(text.contains("only models from the hub have revisions"), "{text}");
    let text = resolve(&[("bundle", "/bundle"), ("revision", "v1")], &[], "").expect_err("a bundle");
    assert!(text.contains("a bundle is used as it is"), "{text}");
    for flags in [[("model", "/models/mine"), ("revision", "main")], [("bundle", "/bundle"), ("revision", "main")]] {
        assert!(resolve(&flags, &[], "").is_ok(), "{flags:?}");
    }
}

#[test]
fn a_revision_belongs_to_the_model_that_its_source_names() {
    let built_in = [("EMBEDD_MODEL", "a/b"), ("EMBEDD_REVISION", "v1")];
    let other = resolve(&[("model", "c/d")], &built_in, "").expect("valid");
    assert_eq!(other.settings.model.to_string(), "c/d");
    let [warning] = &other.warnings(NonZeroUsize::MIN)[..] else { panic!("one warning") };
    assert!(warning.contains("`EMBEDD_REVISION`) is overridden by model = `c/d`"), "{warning}");
    let bundle = resolve(&[("bundle", "/bundle")], &built_in, "").expect("valid");
    assert_eq!(bundle.settings.bundle, Some("/bundle".into()));
    assert_eq!(bundle.warnings(NonZeroUsize::MIN).len(), 2);
    let revision = resolve(&[("revision", "v2")], &built_in, "").expect("valid");
    assert_eq!(revision.settings.model.to_string(), "a/b@v2");
    let file = resolve(&[], &[("EMBEDD_MODEL", "c/d")], "model = \"a/b\"\nrevision = \"v1\"\n").expect("valid");
    assert_eq!(file.settings.model.to_string(), "c/d");
}

#[test]
fn more_threads_than_cpus_cause_a_warning() {
    let four = NonZeroUsize::MIN.saturating_add(3);
    for (flags, warned) in [
        (&[][..], false),
        (&[("sessions", "4")], false),
        (&[("threads", "5")], true),
        (&[("sessions", "2"), ("threads", "2")], false),
        (&[("sessions", "2"), ("threads", "3")], true),
    ] {
        let warnings = resolve(flags, &[], "").expect("valid").warnings(four);
        assert_eq!(!warnings.is_empty(), warned, "{flags:?} {warnings:?}");
    }
}
