//! The files of models with further modules, other tokenizers and other folders, and models that are rejected.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::hub_server::HubServer;
use super::*;

pub(super) const DENSE_MODULES: &str = r#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Dense", "type": "sentence_transformers.models.Dense"},
    {"path": "3_LayerNorm", "type": "sentence_transformers.base.modules.layer_norm.LayerNorm"}]"#;

fn at(server: &HubServer, home: &TempDir) -> Fetcher {
    fetcher(home).origin(Origin::Hub).hub_endpoint(&server.address)
}

/// A model with Dense and LayerNorm, whose weights are in both formats.
fn dense_files() -> BTreeMap<String, Vec<u8>> {
    let mut files = model_files(10);
    files.insert("modules.json".to_owned(), DENSE_MODULES.into());
    for file in [
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "2_Dense/pytorch_model.bin",
        "3_LayerNorm/config.json",
        "3_LayerNorm/pytorch_model.bin",
    ] {
        files.insert(file.to_owned(), file.into());
    }
    files
}

/// The position of the first request for the file.
fn position(server: &HubServer, file: &str) -> usize {
    let requests = server.requests();
    requests.iter().position(|request| request.path.ends_with(file)).unwrap_or_else(|| panic!("no request for {file}"))
}

#[test]
fn modules_are_fetched_with_their_weights() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(dense_files());
    let folder = at(&server, &home).model(&model(MODEL)).expect("the model");
    for file in ["2_Dense/config.json", "2_Dense/model.safetensors", "3_LayerNorm/pytorch_model.bin"] {
        assert_eq!(fs::read(folder.join(file)).ok(), Some(file.into()), "{file}");
    }
    assert!(!folder.join("2_Dense/pytorch_model.bin").exists(), "the same weights in another format");
    at(&server, &home).verify(true).offline(true).model(&model(MODEL)).expect("the model is there");
}

#[test]
fn a_module_without_its_files_is_rejected() {
    for (file, part) in [
        ("2_Dense/config.json", "`2_Dense/config.json` of `somebody/small`"),
        ("3_LayerNorm/pytorch_model.bin", "(3_LayerNorm/model.safetensors, 3_LayerNorm/pytorch_model.bin)"),
    ] {
        let home = TempDir::new().expect("a folder");
        let server = HubServer::start(dense_files());
        server.behave(|hub| drop(hub.files.remove(file)));
        let text = at(&server, &home).model(&model(MODEL)).expect_err("a missing file").to_string();
        assert!(text.contains(part), "{text}");
        assert_eq!(files_in(&home), Vec::<String>::new());
    }
}

#[test]
fn weights_of_modules_that_an_earlier_version_did_not_fetch_are_added() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(dense_files());
    let folder = at(&server, &home).model(&model(MODEL)).expect("the model");
    let mut record = Record::read(&folder).expect("a record").expect("a record");
    record.files.retain(|file, _| !file.ends_with("_Dense/model.safetensors"));
    fs::write(folder.join(RECORD_FILE), record.to_json().expect("JSON")).expect("a record");
    fs::remove_file(folder.join("2_Dense/model.safetensors")).expect("a removal");
    let text = at(&server, &home).offline(true).model(&model(MODEL)).expect_err("an incomplete folder").to_string();
    assert!(text.contains("`2_Dense/model.safetensors` was not fetched"), "{text}");
    at(&server, &home).model(&model(MODEL)).expect("the model");
    assert!(folder.join("2_Dense/model.safetensors").is_file());
}

#[test]
fn a_transformer_in_a_folder_is_fetched() {
    let home = TempDir::new().expect("a folder");
    let of_model = ["1_Pooling/config.json", "README.md", "modules.json"];
    let moved = |file: String| if of_model.contains(&&*file) { file } else { format!("0_Transformer/{file}") };
    let mut files: BTreeMap<_, _> = model_files(10).into_iter().map(|(file, bytes)| (moved(file), bytes)).collect();
    files.insert(
        "modules.json".to_owned(),
        MODULES_JSON.replacen(r#""path": """#, r#""path": "0_Transformer""#, 1).into_bytes(),
    );
    let weights = files.remove("0_Transformer/model.safetensors").expect("the weights");
    files.insert("0_Transformer/model.safetensors.index.json".to_owned(), INDEX.into());
    files.insert("0_Transformer/model-1.safetensors".to_owned(), weights.clone());
    files.insert("0_Transformer/model-2.safetensors".to_owned(), weights);
    let server = HubServer::start(files.clone());
    let folder = at(&server, &home).model(&model(MODEL)).expect("the model");
    for (file, bytes) in files.into_iter().filter(|(file, _)| !file.ends_with("desktop.ini")) {
        assert_eq!(fs::read(folder.join(&file)).ok(), Some(bytes), "{file}");
    }
    assert_eq!(fetcher(&home).model(&ModelRef::Folder(folder.clone())).expect("a complete folder"), folder);
}

#[test]
fn a_vocabulary_replaces_tokenizer_json() {
    let vocabularies: [&[&str]; 6] = [
        &["vocab.txt"],
        &["vocab.json", "merges.txt"],
        &["sentencepiece.bpe.model"],
        &["spiece.model"],
        &["spm.model", "added_tokens.json"],
        &["tokenizer.model"],
    ];
    for vocabulary in vocabularies {
        let home = TempDir::new().expect("a folder");
        let mut files = model_files(10);
        files.extend(vocabulary.iter().map(|file| ((*file).to_owned(), file.as_bytes().to_vec())));
        let complete = HubServer::start(files.clone());
        let folder = at(&complete, &home).model(&model(MODEL)).expect("the model");
        let ignored = vocabulary.iter().filter(|file| **file != "added_tokens.json");
        assert!(ignored.clone().all(|file| !folder.join(file).exists()), "{vocabulary:?} beside tokenizer.json");

        let home = TempDir::new().expect("a folder");
        files.remove("tokenizer.json");
        let server = HubServer::start(files);
        let folder = at(&server, &home).model(&model(MODEL)).expect("the model");
        assert!(vocabulary.iter().all(|file| folder.join(file).is_file()), "{vocabulary:?}");
    }
}

#[test]
fn a_model_without_a_tokenizer_is_rejected() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(10));
    server.behave(|hub| drop(hub.files.remove("tokenizer.json")));
    let error = at(&server, &home).model(&model(MODEL)).expect_err("no tokenizer");
    assert!(matches!(error, FetchError::Hub(HubError::NoTokenizer { .. })), "{error}");
    assert!(error.to_string().contains("vocab.txt"), "{error}");
    assert!(server.requests().iter().all(|request| !request.path.ends_with(".safetensors")));
}

#[test]
fn a_transformer_alone_is_fetched() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(10));
    server.behave(|hub| drop(hub.files.remove("modules.json")));
    let folder = at(&server, &home).model(&model(MODEL)).expect("the model");
    assert!(folder.join("model.safetensors").is_file() && !folder.join("1_Pooling").exists());
    server.behave(|hub| hub.files.clear());
    let text = at(&server, &home).model(&model("somebody/empty")).expect_err("no files").to_string();
    assert!(text.contains("`config.json` of `somebody/empty`"), "{text}");
}

#[test]
fn a_model_that_the_check_rejects_costs_no_weights() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(dense_files());
    let rejecting = at(&server, &home).origin(Origin::Auto).check(|folder| {
        let all = ["modules.json", "config.json", "tokenizer.json", "1_Pooling/config.json", "2_Dense/config.json"];
        assert!(all.iter().all(|file| folder.join(file).is_file()), "the check sees all files but the weights");
        Err(format!("{}: the chain is not supported", folder.join("modules.json").display()))
    });
    for _ in 0..2 {
        let error = rejecting.model(&model(MODEL)).expect_err("rejected");
        let expected = "`somebody/small` cannot be used: modules.json: the chain is not supported; its weights were not \
                        downloaded";
        assert_eq!(error.to_string(), expected);
        assert!(matches!(error, FetchError::Rejected { .. }), "another origin has the same model");
        assert_eq!(files_in(&home), Vec::<String>::new());
    }
    assert!(server.requests().iter().all(|request| !request.path.ends_with(".safetensors")), "{:?}", server.requests());

    // A later version supports it.
    let folder = at(&server, &home).check(|_| Ok(())).model(&model(MODEL)).expect("the model");
    assert!(folder.join("model.safetensors").is_file() && folder.join("2_Dense/model.safetensors").is_file());
}

#[test]
fn a_model_is_checked_once_and_before_its_weights() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(dense_files());
    let checks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&checks);
    let fetcher = at(&server, &home).check(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    fetcher.model(&model(MODEL)).expect("the model");
    fetcher.model(&model(MODEL)).expect("the model is there");
    assert_eq!(checks.load(Ordering::Relaxed), 1);
    let weights = position(&server, "2_Dense/model.safetensors");
    assert!(weights < position(&server, "c0ffee/model.safetensors"), "the transformer's weights are last");
    assert!(["tokenizer.json", "2_Dense/config.json"].iter().all(|file| position(&server, file) < weights));
}

#[test]
fn the_files_of_a_model_without_a_transformer_are_left_to_the_check() {
    let home = TempDir::new().expect("a folder");
    let modules = r#"[{"path": "0_StaticEmbedding", "type": "sentence_transformers.models.StaticEmbedding"}]"#;
    let server = HubServer::start([("modules.json".to_owned(), modules.into())].into());
    let rejecting = at(&server, &home).check(|_| Err("static embeddings are not supported".to_owned()));
    let text = rejecting.model(&model(MODEL)).expect_err("rejected").to_string();
    assert!(text.contains("cannot be used: static embeddings are not supported"), "{text}");
}
