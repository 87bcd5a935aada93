use tonic::Code;

use super::*;
use crate::reload::NamedFile;

fn guard(content: &str) -> Guard {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens");
    std::fs::write(&path, content).expect("write");
    Guard(Some(Tokens::open(NamedFile { path, flag: "--token-file" }).expect("a token")))
}

fn call(guard: &mut Guard, authorization: &str) -> Result<Request<()>, Status> {
    let mut request = Request::new(());
    request.metadata_mut().insert(AUTHORIZATION, authorization.parse().expect("metadata"));
    guard.call(request)
}

#[test]
fn calls_with_a_token_pass_without_it_and_others_are_told_why_they_do_not() {
    let mut guard = guard("secret");
    for authorization in ["Bearer secret", "bearer secret", "BEARER  secret"] {
        let request = call(&mut guard, authorization).expect(authorization);
        assert!(request.metadata().get(AUTHORIZATION).is_none(), "the token goes no further");
    }
    for (authorization, told) in [
        ("Bearer wrong", "unknown token"),
        ("Bearer ", "unknown token"),
        ("secret", "`Bearer TOKEN`"),
        ("Basic secret", "`Bearer TOKEN`"),
    ] {
        let status = call(&mut guard, authorization).expect_err(authorization);
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains(told) && !status.message().contains("secret"), "{status}");
    }
    let status = guard.call(Request::new(())).expect_err("no token");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("missing token"), "{status}");
}

#[test]
fn without_a_file_everybody_may_call() {
    assert!(Guard(None).call(Request::new(())).is_ok());
}
