use super::hub_server::{HubServer, Request};
use super::*;

const WEIGHTS: usize = 300_000;

fn at(server: &HubServer, home: &TempDir) -> Fetcher {
    fetcher(home).origin(Origin::Hub).hub_endpoint(&server.address)
}

fn authorization(request: &Request) -> Option<&str> {
    request.headers.get("authorization").map(String::as_str)
}

/// Whether all requests to the server carry this header, or none of them any.
#[track_caller]
fn assert_authorization(server: &HubServer, expected: Option<&str>) {
    let requests = server.requests();
    assert!(!requests.is_empty());
    for request in &requests {
        assert_eq!(authorization(request), expected, "{}", request.path);
    }
}

fn login(home: &TempDir, contents: &[u8]) -> std::path::PathBuf {
    let path = home.path().join("token");
    fs::write(&path, contents).expect("a file");
    path
}

#[test]
fn the_token_is_sent_to_the_hub_but_not_to_redirect_targets() {
    let home = TempDir::new().expect("a folder");
    let path = login(&home, b"secret\r\n");
    for (given, file) in [(Some("secret\n".to_owned()), None), (None, Some(path))] {
        let home = TempDir::new().expect("a folder");
        let server = HubServer::start(model_files(WEIGHTS));
        let storage = HubServer::start(model_files(WEIGHTS));
        server.behave(|hub| hub.storage = Some(storage.address.clone()));
        storage.behave(|storage| storage.cuts = vec![1000]);
        let fetcher = at(&server, &home).hub_token(given).hub_token_file(file);
        fetcher.model(&model(MODEL)).expect("the model");
        assert_authorization(&server, Some("Bearer secret"));
        assert_authorization(&storage, None);
        assert_eq!(storage.body_bytes(), WEIGHTS as u64, "resumed after the redirect");
        assert!(!format!("{fetcher:?}").contains("secret"));
    }
}

#[test]
fn a_given_token_comes_before_the_one_of_the_login() {
    let home = TempDir::new().expect("a folder");
    let path = login(&home, b"of the login");
    for (given, expected) in [("given", "Bearer given"), (" \n", "Bearer login")] {
        fs::write(&path, "login").expect("a file");
        let home = TempDir::new().expect("a folder");
        let server = HubServer::start(model_files(10));
        let fetcher = at(&server, &home).hub_token(Some(given.to_owned())).hub_token_file(Some(path.clone()));
        fetcher.model(&model(MODEL)).expect("the model");
        assert_authorization(&server, Some(expected));
    }
}

#[test]
fn a_login_that_is_missing_blank_or_unreadable_is_ignored() {
    let home = TempDir::new().expect("a folder");
    let blank = login(&home, b"\n");
    for path in [home.path().join("none"), blank, home.path().to_owned()] {
        let home = TempDir::new().expect("a folder");
        let server = HubServer::start(model_files(10));
        at(&server, &home).hub_token_file(Some(path.clone())).model(&model(MODEL)).expect("the model");
        assert_authorization(&server, None);
    }
}

#[test]
fn a_token_that_cannot_be_sent_is_rejected_by_its_place() {
    let home = TempDir::new().expect("a folder");
    let path = login(&home, b"\x00\xffsecret");
    let server = HubServer::start(model_files(10));
    let text = at(&server, &home).hub_token_file(Some(path.clone())).model(&model(MODEL)).expect_err("no token");
    let text = text.to_string();
    assert!(text.contains(&format!("the access token in {} contains", path.display())), "{text}");
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_refusal_names_the_place_of_the_token_that_was_sent() {
    let home = TempDir::new().expect("a folder");
    let path = login(&home, b"secret");
    let server = HubServer::start(model_files(10));
    server.behave(|hub| hub.refusal = Some((401, "GatedRepo")));
    let refused = |fetcher: Fetcher| fetcher.model(&model(MODEL)).expect_err("refused").to_string();
    let text = refused(at(&server, &home).hub_token_file(Some(path.clone())));
    assert!(text.contains(&format!("with the token in {}", path.display())), "{text}");
    let text = refused(at(&server, &home).hub_token(Some("secret".to_owned())));
    assert!(text.contains("with the token in HF_TOKEN") && !text.contains("secret"), "{text}");
    let text = refused(at(&server, &home));
    assert!(text.contains("without a token") && text.contains("hf auth login"), "{text}");
}
