use super::hub_server::{HubServer, Ranges};
use super::*;

const WEIGHTS: usize = 300_000;

fn at(server: &HubServer, home: &TempDir) -> Fetcher {
    fetcher(home).origin(Origin::Hub).hub_endpoint(&server.address)
}

#[test]
fn a_model_is_fetched_once_and_then_used_without_network() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(WEIGHTS));
    let folder = at(&server, &home).model(&model(MODEL)).expect("the model");
    for (file, bytes) in model_files(WEIGHTS) {
        assert_eq!(fs::read(folder.join(&file)).ok(), (file != "desktop.ini").then_some(bytes), "{file}");
    }
    let record = Record::read(&folder).expect("a record").expect("a record");
    let source = Source::Hub { model: MODEL.into(), revision: "main".into(), commit: Some("c0ffee".into()) };
    assert_eq!(record.source, source);
    assert_eq!(record.files.len(), 9);
    assert!(files_in(&home).iter().all(|file| file.starts_with("models/")), "{:?}", files_in(&home));

    let requests = server.requests();
    assert!(requests[0].path.ends_with("/somebody/small/resolve/main/modules.json"));
    assert!(requests[1..].iter().all(|request| request.path.contains("/resolve/c0ffee/")), "one commit for all");
    at(&server, &home).verify(true).offline(true).model(&model(MODEL)).expect("the model is there");
    assert_eq!(server.requests().len(), requests.len());
}

#[test]
fn an_interrupted_download_is_resumed() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(WEIGHTS));
    server.behave(|hub| hub.cuts = vec![100_000, 50_000]);
    let folder = at(&server, &home).model(&model(MODEL)).expect("the model");
    assert_eq!(fs::read(folder.join("model.safetensors")).ok().as_ref(), model_files(WEIGHTS).get("model.safetensors"));
    let small: usize = model_files(0).iter().filter(|(file, _)| *file != "desktop.ini").map(|(_, b)| b.len()).sum();
    assert_eq!(server.body_bytes(), (WEIGHTS + small) as u64, "no byte was sent twice");
}

#[test]
fn a_later_process_resumes_the_download_of_an_earlier_one() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(WEIGHTS));
    server.behave(|hub| hub.cuts = vec![100_000]);
    let mut without_retries = at(&server, &home);
    without_retries.settings.hub.retry.retries = 0;
    let error = without_retries.model(&model(MODEL)).expect_err("the connection broke");
    assert!(error.to_string().contains("`model.safetensors` interrupted after 100000 bytes"), "{error}");
    let before = server.body_bytes();
    at(&server, &home).model(&model(MODEL)).expect("the model");
    assert!(server.body_bytes() - before < (WEIGHTS - 100_000 + 10_000) as u64);
}

#[test]
fn a_file_that_changed_on_the_hub_is_downloaded_from_the_start() {
    for ranges in [Ranges::Right, Ranges::Ignored, Ranges::Unconditional] {
        let home = TempDir::new().expect("a folder");
        let server = HubServer::start(model_files(WEIGHTS));
        server.behave(|hub| hub.cuts = vec![100_000]);
        let mut without_retries = at(&server, &home);
        without_retries.settings.hub.retry.retries = 0;
        without_retries.model(&model(MODEL)).expect_err("the connection broke");
        let other = vec![7; 200_000];
        server.behave(|hub| {
            hub.generation += 1;
            hub.ranges = ranges;
            hub.omits_sha256 = true;
            hub.files.insert("model.safetensors".to_owned(), other.clone());
        });
        let folder = at(&server, &home).model(&model(MODEL)).expect("the model");
        assert_eq!(fs::read(folder.join("model.safetensors")).ok(), Some(other), "{ranges:?}");
    }
}

#[test]
fn a_complete_but_unchecked_file_is_not_downloaded_again() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(WEIGHTS));
    let fetcher = at(&server, &home);
    fetcher.model(&model(MODEL)).expect("the model");
    // The state left by a process that was killed between the last byte and the move.
    let incomplete = fetcher.home.partial_dir().join("models--somebody--small/hub");
    fs::create_dir_all(&incomplete).expect("a folder");
    let folder = fetcher.home.model_dir(&model(MODEL));
    fs::rename(folder.join("model.safetensors"), incomplete.join("model.safetensors")).expect("a move");
    let digest = Sha256Hex::of(&model_files(WEIGHTS)["model.safetensors"]);
    fs::write(incomplete.join("model.safetensors.etag"), format!("\"0-{}\"", &digest.as_str()[..8])).expect("a tag");
    let before = server.body_bytes();
    fetcher.verify(true).model(&model(MODEL)).expect("the model");
    assert!(server.body_bytes() - before < 10_000, "only the small files were sent again");
}

/// A catalog that pins the weights of [`MODEL`].
fn with_pin(mut fetcher: Fetcher, sha256: &'static str) -> Fetcher {
    let pins: &[catalog::Pin] = Box::leak(Box::new([catalog::Pin { file: "model.safetensors", sha256 }]));
    let known = catalog::Model { id: MODEL, pip: catalog::PipSource::SplitZip { parts: &[], folder: "" }, pins };
    let models: &[_] = Box::leak(Box::new([known]));
    fetcher.catalog = Box::leak(Box::new(Catalog { runtimes: &[], models }));
    fetcher
}

#[test]
fn a_checksum_mismatch_is_reported_and_leaves_no_files() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(WEIGHTS));
    let fetcher = with_pin(at(&server, &home), sha256(b"x"));
    let error = fetcher.model(&model(MODEL)).expect_err("not the pinned file");
    let text = error.to_string();
    for part in ["model.safetensors", MODEL, sha256(b"x"), sha256(&model_files(WEIGHTS)["model.safetensors"])] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(files_in(&home), Vec::<String>::new());
}

#[test]
fn the_digest_reported_by_the_hub_is_checked() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(WEIGHTS));
    let storage = HubServer::start([("model.safetensors".to_owned(), vec![0; WEIGHTS])].into());
    storage.behave(|storage| storage.omits_sha256 = true);
    server.behave(|hub| hub.storage = Some(storage.address.clone()));
    let error = at(&server, &home).model(&model(MODEL)).expect_err("the storage has another file");
    assert!(matches!(error, FetchError::Checksum { .. }), "{error}");
}

#[test]
fn transient_errors_are_retried_and_refusals_are_not() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(10));
    server.behave(|hub| hub.failures = vec![503, 429, 500]);
    at(&server, &home).model(&model(MODEL)).expect("the model");

    for (status, code, parts) in [
        (401, "GatedRepo", ["gated", "HF_TOKEN"]),
        (403, "", ["without a token", "HF_TOKEN"]),
        (404, "RepoNotFound", ["no such model", MODEL]),
        (404, "RevisionNotFound", ["no such revision", "main"]),
        (410, "", ["status 410", MODEL]),
    ] {
        let home = TempDir::new().expect("a folder");
        let server = HubServer::start(model_files(10));
        server.behave(|hub| hub.refusal = Some((status, code)));
        let text = at(&server, &home).model(&model(MODEL)).expect_err("refused").to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert_eq!(server.requests().len(), 1, "{status} {code}");
        assert_eq!(files_in(&home), Vec::<String>::new());
    }
}

#[test]
fn a_model_without_weights_is_rejected() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(10));
    server.behave(|hub| drop(hub.files.remove("model.safetensors")));
    let error = at(&server, &home).model(&model(MODEL)).expect_err("no weights");
    assert!(matches!(error, FetchError::Hub(HubError::NoWeights { .. })), "{error}");
    assert!(error.to_string().contains("pytorch_model.bin"), "{error}");
}

#[test]
fn only_the_preferred_weights_are_fetched() {
    let all = [
        ("model.safetensors", "weights"),
        ("model.safetensors.index.json", INDEX),
        ("model-1.safetensors", "first"),
        ("model-2.safetensors", "second"),
        ("pytorch_model.bin", "pickle"),
        ("pytorch_model.bin.index.json", r#"{"weight_map": {"a": "a.bin"}}"#),
        ("a.bin", "pickle"),
    ];
    // The position of the first of these files that the model has.
    let cases: [(usize, &[&str]); 4] = [
        (0, &["model.safetensors"]),
        (1, &["model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"]),
        (4, &["pytorch_model.bin"]),
        (5, &["a.bin", "pytorch_model.bin.index.json"]),
    ];
    for (first, expected) in cases {
        let home = TempDir::new().expect("a folder");
        let mut files = model_files(10);
        files.remove("model.safetensors");
        files.extend(all[first..].iter().map(|(file, text)| ((*file).to_owned(), text.as_bytes().to_vec())));
        let server = HubServer::start(files);
        let folder = at(&server, &home).model(&model(MODEL)).expect("the model");
        let mut found: Vec<_> = all.iter().map(|(file, _)| *file).filter(|file| folder.join(file).exists()).collect();
        found.sort_unstable();
        assert_eq!(found, expected);
    }
}

#[test]
fn an_index_cannot_replace_other_files() {
    let home = TempDir::new().expect("a folder");
    let mut files = model_files(10);
    files.remove("model.safetensors");
    files.insert("model.safetensors.index.json".to_owned(), r#"{"weight_map": {"a": "config.json"}}"#.into());
    let server = HubServer::start(files);
    let text = at(&server, &home).model(&model(MODEL)).expect_err("an invalid index").to_string();
    assert!(text.contains(r#""config.json" is not the plain name of a .safetensors file"#), "{text}");
}

#[test]
fn weights_without_a_pin_do_not_replace_pinned_ones() {
    let home = TempDir::new().expect("a folder");
    let mut files = model_files(10);
    let weights = files.remove("model.safetensors").expect("the weights");
    files.insert("pytorch_model.bin".to_owned(), weights.clone());
    let server = HubServer::start(files);
    let fetcher = with_pin(at(&server, &home), sha256(&weights));
    let text = fetcher.model(&model(MODEL)).expect_err("the pinned file is missing").to_string();
    assert!(text.contains("`model.safetensors`"), "{text}");
}

#[test]
fn only_damaged_files_are_fetched_again() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(WEIGHTS));
    let fetcher = at(&server, &home);
    let folder = fetcher.model(&model(MODEL)).expect("the model");
    fs::remove_file(folder.join("tokenizer.json")).expect("a removal");
    let before = server.body_bytes();
    fetcher.model(&model(MODEL)).expect("the model");
    assert!(folder.join("tokenizer.json").is_file());
    // The server starts to send the weights before the client finds that it has them.
    assert!(server.requests().iter().filter(|request| request.path.ends_with("model.safetensors")).count() == 2);
    assert!(server.body_bytes() - before <= WEIGHTS as u64 + 10_000);
    fetcher.offline(true).verify(true).model(&model(MODEL)).expect("all files are intact");
}

#[test]
fn a_hub_that_sends_a_byte_in_each_attempt_is_given_up() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(WEIGHTS));
    server.behave(|hub| hub.cuts = vec![1; 100]);
    let error = at(&server, &home).model(&model(MODEL)).expect_err("no progress worth the name");
    assert!(error.to_string().contains("`model.safetensors` interrupted after 6 bytes"), "{error}");
    let attempts = server.requests().iter().filter(|request| request.path.ends_with("model.safetensors")).count();
    assert_eq!(attempts, 6, "the first attempt and five retries");
}

#[test]
fn a_hub_that_asks_for_a_long_pause_is_not_waited_for() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(10));
    server.behave(|hub| (hub.refusal, hub.retry_after) = (Some((429, "")), Some(99_999_999_999)));
    let error = at(&server, &home).model(&model(MODEL)).expect_err("refused");
    assert!(error.to_string().contains("status 429"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_file_that_never_ends_is_discarded() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(10));
    server.behave(|hub| hub.endless = Some("modules.json"));
    let error = at(&server, &home).model(&model(MODEL)).expect_err("endless");
    assert!(error.to_string().contains("more than 16777216 bytes for `modules.json`"), "{error}");
    assert_eq!(server.requests().len(), 1, "another attempt would not end, either");
    assert_eq!(files_in(&home), Vec::<String>::new());
}

#[test]
fn a_file_that_is_announced_too_large_is_not_downloaded() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(10));
    server.behave(|hub| drop(hub.files.insert("config.json".to_owned(), vec![b' '; (16 << 20) + 1])));
    let error = at(&server, &home).model(&model(MODEL)).expect_err("too large");
    assert!(error.to_string().contains("more than 16777216 bytes for `config.json`"), "{error}");
    assert_eq!(files_in(&home), Vec::<String>::new());
}

#[test]
fn an_invalid_commit_is_rejected() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(10));
    server.behave(|hub| hub.commit = Some("../../x"));
    let error = at(&server, &home).model(&model(MODEL)).expect_err("not a commit");
    assert!(error.to_string().contains("its commit is `../../x`"), "{error}");
    assert_eq!(files_in(&home), Vec::<String>::new());
}
