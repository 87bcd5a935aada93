use super::*;

fn tokens(content: &str) -> Result<Tokens, TokensError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens");
    std::fs::write(&path, content).expect("write");
    Tokens::open(NamedFile { path, flag: "--token-file" })
}

#[test]
fn a_file_has_one_token_per_line_and_comments_and_empty_lines_are_ignored() {
    let tokens = tokens("# service a\n  first \n\n#off\nsecond\r\n").expect("two tokens");
    assert_eq!(format!("{:?}", tokens.0.current()), "2 tokens");
    let has = |token: &str| tokens.0.current().find(Sha256::digest(token).into()).is_some();
    assert!(has("first") && has("second"));
    assert!(["", "firs", "first ", "First", "#off", "off"].iter().all(|token| !has(token)));
}

#[test]
fn a_file_without_tokens_or_with_an_invalid_one_is_rejected() {
    for content in ["", "\n", "# a comment\n"] {
        assert!(tokens(content).expect_err("no token").to_string().contains("contains no token"), "{content:?}");
    }
    for content in [
        "one\ntwo words",
        "one\ntwo in_flight=0",
        "one\ntwo in_flight=1 words",
        "one\ntwo in_flight=1 in_flight=2",
        "one\nzw\u{f6}lf",
        "one\ntab\tbed",
    ] {
        let error = tokens(content).expect_err("an invalid token").to_string();
        assert!(error.contains("tokens (--token-file), line 2"), "{error}");
        assert!(!error.contains("words"), "the error must not reveal a token: {error}");
    }
}

#[test]
fn a_call_needs_the_scheme_in_any_case_and_a_known_token() {
    let tokens = tokens("secret").expect("a token");
    let caller = CallerId::Token(Sha256::digest("secret").into());
    for (authorization, admitted) in [
        (Some("Bearer secret"), Ok(caller)),
        (Some("bearer secret"), Ok(caller)),
        (Some("BEARER  secret"), Ok(caller)),
        (Some("Bearer wrong"), Err(Refusal::Unknown)),
        (Some("Bearer "), Err(Refusal::Unknown)),
        (Some("secret"), Err(Refusal::Malformed)),
        (Some("Basic secret"), Err(Refusal::Malformed)),
        (Some(""), Err(Refusal::Malformed)),
        (None, Err(Refusal::Missing)),
    ] {
        assert_eq!(tokens.admit(authorization).map(|caller| caller.id), admitted, "{authorization:?}");
    }
}

#[test]
fn a_fixed_token_is_the_only_one() {
    let tokens = Tokens::fixed("secret").expect("a token");
    assert!(tokens.admit(Some("Bearer secret")).is_ok());
    assert_eq!(tokens.admit(Some("Bearer other")).err(), Some(Refusal::Unknown));
    assert_eq!(tokens.admit(None).err(), Some(Refusal::Missing));
}

#[test]
fn a_token_may_be_followed_by_its_quota() {
    let tokens = tokens("plain\nlimited  texts_per_second=5 in_flight=1\n").expect("two tokens");
    let quota = |token: &str| tokens.admit(Some(&format!("Bearer {token}"))).expect("known").quota;
    assert!(quota("plain").is_none());
    let limited = quota("limited").expect("a quota");
    let _one = limited.try_enter(1).expect("the first request");
    assert!(quota("limited").expect("the same").try_enter(1).is_err(), "all calls with the token share the quota");
    assert!(tokens.admit(Some("Bearer limited  texts_per_second=5 in_flight=1")).is_err());
}
