use super::hub_server::HubServer;
use super::*;

fn at(server: &HubServer, home: &TempDir) -> Fetcher {
    fetcher(home).origin(Origin::Hub).hub_endpoint(&server.address)
}

fn revision(name: &str) -> ModelRef {
    model(MODEL).at(name.parse().expect("a revision"))
}

#[test]
fn each_revision_is_fetched_into_its_own_folder() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(10));
    let main = at(&server, &home).model(&model(MODEL)).expect("the model");
    assert!(main.ends_with("models/somebody--small"), "the name that it has always had");
    server.behave(|hub| {
        hub.commit = Some("beef");
        hub.files.insert("model.safetensors".to_owned(), b"other weights".to_vec());
    });
    let requests = server.requests().len();
    let other = at(&server, &home).model(&revision("refs/pr/1")).expect("the model");
    assert!(server.requests()[requests].path.contains("/resolve/refs%2Fpr%2F1/modules.json"));
    assert!(server.requests()[requests + 1..].iter().all(|request| request.path.contains("/resolve/beef/")));
    assert_ne!(main, other);
    let weights = |folder: &Path| fs::read(folder.join("model.safetensors")).expect("the weights");
    assert_eq!(
        (weights(&main), weights(&other)),
        (model_files(10)["model.safetensors"].clone(), b"other weights".to_vec())
    );
    let record = Record::read(&other).expect("a record").expect("a record");
    let source = Source::Hub { model: MODEL.into(), revision: "refs/pr/1".into(), commit: Some("beef".into()) };
    assert_eq!(record.source, source);

    let requests = server.requests().len();
    let offline = at(&server, &home).offline(true).verify(true);
    assert_eq!(offline.model(&revision("main")).expect("the default revision"), main);
    assert_eq!(offline.model(&revision("refs/pr/1")).expect("the other one"), other);
    let text = offline.model(&revision("v2")).expect_err("never fetched").to_string();
    assert!(text.contains("no complete copy of somebody/small@v2 in"), "{text}");
    assert_eq!(server.requests().len(), requests);
}

#[test]
fn another_revision_is_neither_pinned_nor_fetched_by_pip() {
    let home = TempDir::new().expect("a folder");
    let pins = Vec::leak(vec![catalog::Pin { file: "model.safetensors", sha256: sha256(b"x") }]);
    let known = catalog::Model { id: MODEL, pip: catalog::PipSource::SplitZip { parts: &[], folder: "" }, pins };
    let catalog: &Catalog = Box::leak(Box::new(Catalog { runtimes: &[], models: Vec::leak(vec![known]) }));
    let server = HubServer::start(model_files(10));
    let mut fetcher = at(&server, &home);
    fetcher.catalog = catalog;
    assert!(matches!(fetcher.model(&model(MODEL)), Err(FetchError::Checksum { .. })));
    fetcher.model(&revision("v1")).expect("its files may differ");

    let mut unreachable = super::fetcher(&home);
    unreachable.catalog = catalog;
    let error = unreachable.model(&revision("v2")).expect_err("no hub");
    assert!(matches!(error, FetchError::Hub(HubError::Unreachable { .. })), "{error}");
    let text = unreachable.origin(Origin::Pip).model(&revision("v2")).expect_err("only on the hub").to_string();
    assert!(text.contains("revision `v2` of `somebody/small` is not available from pip"), "{text}");
}

#[test]
fn a_revision_that_does_not_exist_is_reported_by_name() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(10));
    server.behave(|hub| hub.refusal = Some((404, "RevisionNotFound")));
    let text = at(&server, &home).model(&revision("v9")).expect_err("no such revision").to_string();
    assert!(text.contains("at revision `v9` not found on the hub: no such revision"), "{text}");
    assert_eq!(files_in(&home), Vec::<String>::new());
}
