use tonic::Code;

use super::*;

fn tokens(content: &str) -> Result<Tokens, TokensError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens");
    std::fs::write(&path, content).expect("write");
    Tokens::open(NamedFile { path, flag: "--token-file" })
}

fn call(guard: &mut Guard, authorization: &str) -> Result<Request<()>, Status> {
    let mut request = Request::new(());
    request.metadata_mut().insert(AUTHORIZATION, authorization.parse().expect("metadata"));
    guard.call(request)
}

#[test]
fn a_token_a_line_and_comments_and_empty_lines_are_passed_over() {
    let tokens = tokens("# service a\n  first \n\n#off\nsecond\r\n").expect("two tokens");
    assert_eq!(format!("{:?}", tokens.0.current()), "2 tokens");
    assert!(tokens.admit("first") && tokens.admit("second"));
    assert!(["", "firs", "first ", "First", "#off", "off"].iter().all(|token| !tokens.admit(token)));
}

#[test]
fn a_file_without_tokens_or_with_what_is_none_is_refused() {
    for content in ["", "\n", "# a comment\n"] {
        assert!(tokens(content).expect_err("none").to_string().contains("holds no token"), "{content:?}");
    }
    for content in ["one\ntwo words", "one\nzw\u{f6}lf", "one\ntab\tbed"] {
        let error = tokens(content).expect_err("no token").to_string();
        assert!(error.contains("tokens (--token-file), line 2"), "{error}");
        assert!(!error.contains("words"), "no part of a token is told: {error}");
    }
}

#[test]
fn calls_with_a_token_pass_without_it_and_others_are_told_why_they_do_not() {
    let mut guard = Guard(Some(tokens("secret").expect("a token")));
    for authorization in ["Bearer secret", "bearer secret", "BEARER  secret"] {
        let request = call(&mut guard, authorization).expect(authorization);
        assert!(request.metadata().get(AUTHORIZATION).is_none(), "the token goes no further");
    }
    for (authorization, told) in [
        ("Bearer wrong", "none of this server's"),
        ("Bearer ", "none of this server's"),
        ("secret", "`Bearer TOKEN`"),
        ("Basic secret", "`Bearer TOKEN`"),
    ] {
        let status = call(&mut guard, authorization).expect_err(authorization);
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains(told) && !status.message().contains("secret"), "{status}");
    }
    let status = guard.call(Request::new(())).expect_err("no token");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("a token is needed"), "{status}");
}

#[test]
fn without_a_file_everybody_may_call() {
    assert!(Guard(None).call(Request::new(())).is_ok());
}
