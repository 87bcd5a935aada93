//! The configuration of models without their weights.

use super::hub_server::HubServer;
use super::layouts::DENSE_MODULES;
use super::*;

fn at(server: &HubServer, home: &TempDir) -> Fetcher {
    fetcher(home).hub_endpoint(&server.address)
}

/// A model with Dense and LayerNorm.
fn dense_files() -> BTreeMap<String, Vec<u8>> {
    let mut files = model_files(10);
    files.insert("modules.json".to_owned(), DENSE_MODULES.into());
    for file in ["2_Dense/config.json", "2_Dense/model.safetensors", "3_LayerNorm/config.json"] {
        files.insert(file.to_owned(), file.into());
    }
    files.insert("3_LayerNorm/pytorch_model.bin".to_owned(), b"weights".into());
    files
}

fn is_weights(file: &str) -> bool {
    file.ends_with(".safetensors") || file.ends_with(".bin")
}

#[test]
fn only_the_configuration_of_a_hub_model_is_downloaded_and_nothing_is_kept() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(dense_files());
    let revision = model(MODEL).at("v1".parse().expect("a revision"));
    let configuration = at(&server, &home).configuration(&revision).expect("the configuration");
    for (file, bytes) in dense_files().into_iter().filter(|(file, _)| file != "desktop.ini") {
        let expected = if is_weights(&file) { None } else { Some(bytes) };
        assert_eq!(fs::read(configuration.path().join(&file)).ok(), expected, "{file}");
    }
    let source = Source::Hub { model: MODEL.into(), revision: "v1".into(), commit: Some("c0ffee".into()) };
    assert_eq!(configuration.source(), Some(&source));
    assert!(server.requests().iter().all(|request| !is_weights(&request.path)), "{:?}", server.requests());
    drop(configuration);
    assert_eq!(files_in(&home), Vec::<String>::new());
}

#[test]
fn a_fetched_model_and_a_users_own_folder_are_read_in_place() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(dense_files());
    let folder = at(&server, &home).model(&model(MODEL)).expect("the model");
    let offline = fetcher(&home).offline(true);
    let configuration = offline.configuration(&model(MODEL)).expect("the configuration");
    assert_eq!(configuration.path(), folder);
    assert!(matches!(configuration.source(), Some(Source::Hub { revision, .. }) if revision == "main"));
    let text = offline.configuration(&model("somebody/other")).expect_err("it was never fetched").to_string();
    assert!(text.contains("somebody/other"), "{text}");

    let mut files = dense_files();
    files.retain(|file, _| !is_weights(file));
    let mine = home.path().join("mine");
    write_files(&mine, &files);
    let configuration = offline.configuration(&ModelRef::Folder(mine.clone())).expect("weights may be missing");
    assert_eq!((configuration.path(), configuration.source()), (mine.as_path(), None));
    fs::remove_file(mine.join("2_Dense/config.json")).expect("a removal");
    let text = offline.configuration(&ModelRef::Folder(mine)).expect_err("an incomplete folder").to_string();
    assert!(text.contains("is missing 2_Dense/config.json;"), "{text}");
}

#[test]
fn a_model_that_the_check_rejects_has_no_configuration() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(dense_files());
    let rejecting = at(&server, &home).check(|_| Err("the chain is not supported".to_owned()));
    let text = rejecting.configuration(&model(MODEL)).expect_err("rejected").to_string();
    assert_eq!(text, rejecting.model(&model(MODEL)).expect_err("rejected").to_string());
    assert!(text.contains("cannot be used: the chain is not supported"), "{text}");
    assert_eq!(files_in(&home), Vec::<String>::new());
}
