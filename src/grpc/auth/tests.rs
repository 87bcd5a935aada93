use tonic::Code;

use super::*;
use crate::caller::CallerId;
use crate::reload::NamedFile;

fn interceptor(content: &str) -> AuthInterceptor {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens");
    std::fs::write(&path, content).expect("write");
    AuthInterceptor(Some(Tokens::open(NamedFile { path, flag: "--token-file" }).expect("a token")))
}

fn call(interceptor: &mut AuthInterceptor, authorization: &str) -> Result<Request<()>, Status> {
    let mut request = Request::new(());
    request.metadata_mut().insert(AUTHORIZATION, authorization.parse().expect("metadata"));
    interceptor.call(request)
}

#[test]
fn valid_tokens_are_removed_from_calls_and_other_calls_fail_with_the_reason() {
    let mut interceptor = interceptor("secret");
    for authorization in ["Bearer secret", "bearer secret", "BEARER  secret"] {
        let request = call(&mut interceptor, authorization).expect(authorization);
        assert!(request.metadata().get(AUTHORIZATION).is_none(), "the token is removed");
        let caller = CallerId::of(request.extensions());
        assert!(matches!(caller, CallerId::Token(_)), "the token identifies the caller: {caller:?}");
    }
    for (authorization, reason) in [
        ("Bearer wrong", "unknown token"),
        ("Bearer ", "unknown token"),
        ("secret", "`Bearer TOKEN`"),
        ("Basic secret", "`Bearer TOKEN`"),
    ] {
        let status = call(&mut interceptor, authorization).expect_err(authorization);
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains(reason) && !status.message().contains("secret"), "{status}");
    }
    let status = interceptor.call(Request::new(())).expect_err("no token");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("missing token"), "{status}");
}

#[test]
fn without_tokens_every_call_passes() {
    assert!(AuthInterceptor(None).call(Request::new(())).is_ok());
}
