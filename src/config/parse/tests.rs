use super::*;
use crate::config::{EngineChoice, LogFormat};
use embedd_model::tokenize::Truncation;

#[test]
fn sizes_are_bytes_with_or_without_a_unit() {
    for (text, bytes) in [
        ("1", 1),
        ("65536", 65_536),
        ("10B", 10),
        ("64KiB", 65_536),
        ("64 kib", 65_536),
        ("1MiB", 1 << 20),
        ("1GiB", 1 << 30),
        ("1kB", 1000),
        ("2MB", 2_000_000),
    ] {
        assert_eq!(size(text, 1..=1 << 30).map(NonZeroUsize::get), Ok(bytes), "{text}");
    }
}

#[test]
fn invalid_sizes_and_sizes_out_of_range_are_rejected() {
    for text in ["", "0", "-1", "1.5MiB", "KiB", "64 K", "64Kib s", "2GiB", "99999999999999999999", "17179869184GiB"] {
        let expected = size(text, 1..=1 << 30).expect_err(text);
        assert!(expected.contains("`64KiB`") && expected.ends_with("from 1 to 1GiB"), "{expected}");
    }
    assert!(size("0", 0..=1).is_err(), "a limit of zero would allow nothing");
}

#[test]
fn times_need_a_unit() {
    let hour = Duration::from_secs(3600);
    for (text, millis) in
        [("0", 0), ("0s", 0), ("500ms", 500), ("2s", 2000), ("2 s", 2000), ("1m", 60_000), ("1h", 3_600_000)]
    {
        assert_eq!(duration(text, hour), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "2", "s", "-2s", "1.5s", "2sec", "1m30s", "2h", "9999999999999999999h", "18446744073709551615h"] {
        assert!(duration(text, hour).expect_err(text).contains("`500ms`"), "{text}");
    }
}

#[test]
fn counts_and_tokens_have_bounds() {
    assert_eq!(count("1", 4).map(NonZeroUsize::get), Ok(1));
    assert_eq!(count("4", 4).map(NonZeroUsize::get), Ok(4));
    for text in ["0", "5", "", "x", "-1", "1.0"] {
        assert_eq!(count(text, 4), Err("a whole number from 1 to 4".to_owned()), "{text}");
    }
    assert_eq!((tokens("3", 3..=512), tokens("512", 3..=512)), (Ok(3), Ok(512)));
    assert!(["2", "513", "", "4294967296"].iter().all(|text| tokens(text, 3..=512).is_err()));
}

#[test]
fn addresses_are_numeric_and_have_a_port() {
    assert!(["0.0.0.0:0", "[::]:50051", "127.0.0.1:1"].iter().all(|text| address(text).is_ok()));
    assert!(
        ["", "localhost:1", ":50051", "50051", "0.0.0.0", "0.0.0.0:65536"].iter().all(|text| address(text).is_err())
    );
}

#[test]
fn times_in_seconds_are_at_least_one_second() {
    let hour = Duration::from_secs(3600);
    assert_eq!(seconds("1s", hour), Ok(Duration::from_secs(1)));
    assert!(seconds("999ms", hour).expect_err("short").contains("from 1s to 3600s"));
    assert!(seconds("0", hour).is_err() && seconds("2h", hour).is_err() && seconds("x", hour).is_err());
}

#[test]
fn a_word_stands_for_none_and_the_message_names_it() {
    assert_eq!(unless("auto", "AUTO", path), Ok(None));
    assert_eq!(unless("auto", "./auto", path), Ok(Some("./auto".into())));
    assert!(unless("auto", "", path).expect_err("empty").ends_with("or `auto`"));
}

#[test]
fn a_tilde_is_rejected_instead_of_becoming_a_folder() {
    assert!(path("~/models").is_err());
    assert_eq!(path("models"), Ok("models".into()));
}

#[test]
fn a_choice_ignores_case() {
    assert_eq!(choice("Native"), Ok(EngineChoice::Native));
    assert_eq!(choice("reject"), Ok(Truncation::Reject));
    assert_eq!(choice("json"), Ok(LogFormat::Json));
    assert_eq!((choice("on"), choice("0")), (Ok(true), Ok(false)));
    assert_eq!(choice::<Truncation>("middle"), Err("one of `end`, `start`, `reject`".to_owned()));
}

#[test]
fn a_url_names_a_server_and_contains_no_secret() {
    for text in ["http://localhost:4317", "https://collector.example/", "http://[::1]:4317"] {
        assert!(url(text).is_ok(), "{text}");
    }
    for text in
        ["", "localhost:4317", "/traces", "grpc://localhost:4317", "http://", "http://user:secret@localhost:4317"]
    {
        let expected = url(text).expect_err(text);
        assert!(expected.contains("`https://`") && !expected.contains("secret"), "{expected}");
    }
}

#[test]
fn a_prompt_is_named_or_left_to_the_model() {
    assert_eq!(prompt("auto"), Ok(PromptChoice::Default));
    assert_eq!(prompt("none"), Ok(PromptChoice::None));
    assert_eq!(prompt(""), Ok(PromptChoice::None));
    assert_eq!(prompt("Retrieval-query"), Ok(PromptChoice::named("Retrieval-query")));
    for invalid in ["a\nb", &"x".repeat(129)] {
        let expected = prompt(invalid).expect_err(invalid);
        assert!(expected.ends_with("of at most 128 bytes, `auto` or `none`"), "{expected}");
    }
}

#[test]
fn a_model_can_have_several_names() {
    let names = |main: &str, aliases: &[&str]| {
        Ok(ModelNames::new(main.to_owned(), aliases.iter().map(ToString::to_string).collect()))
    };
    assert_eq!(model_names("detector"), names("detector", &[]));
    assert_eq!(model_names("a/b:v1, text-embedding-3-small,é"), names("a/b:v1", &["text-embedding-3-small", "é"]));
    let long = "x".repeat(257);
    for text in ["", "a,", ",a", "a b", "a,\u{7}", "1,2,3,4,5,6,7,8,9", &long] {
        assert!(model_names(text).expect_err(text).contains("1 to 8 names"), "{text}");
    }
}
