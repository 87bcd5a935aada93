use super::hub_server::HubServer;
use super::*;

#[test]
fn a_users_own_folder_is_used_as_is() {
    let home = TempDir::new().expect("a folder");
    write_files(&home.path().join("mine"), &model_files(10));
    let given = ModelRef::Folder(home.path().join("mine"));
    assert_eq!(fetcher(&home).model(&given).expect("the model"), home.path().join("mine"));
    let short = fetcher(&home).user_home(Some(home.path().to_owned()));
    assert_eq!(short.model(&ModelRef::Folder("~/mine".into())).expect("the model"), home.path().join("mine"));
    assert!(fetcher(&home).model(&ModelRef::Folder("~/mine".into())).is_err(), "no home folder is set");
}

#[test]
fn all_missing_files_of_a_users_own_folder_are_listed() {
    let home = TempDir::new().expect("a folder");
    let folder = home.path().join("mine");
    let mut files = model_files(10);
    for file in ["model.safetensors", "1_Pooling/config.json", "config.json"] {
        files.remove(file);
    }
    write_files(&folder, &files);
    let given = ModelRef::Folder(folder.clone());
    let text = fetcher(&home).model(&given).expect_err("an incomplete folder").to_string();
    for part in ["model.safetensors", "1_Pooling/config.json", "config.json,", "pytorch_model.bin.index.json"] {
        assert!(text.contains(part), "{text}");
    }
    fs::remove_file(folder.join("modules.json")).expect("a removal");
    let text = fetcher(&home).model(&given).expect_err("an incomplete folder").to_string();
    assert!(text.contains("modules.json, config.json") && text.contains("1_Pooling/config.json"), "{text}");
    for (path, part) in [(home.path().join("none"), "does not exist"), (folder.join("README.md"), "is a file")] {
        let text = fetcher(&home).model(&ModelRef::Folder(path)).expect_err("not a folder").to_string();
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn the_weights_of_a_users_own_folder_may_be_in_other_files() {
    let home = TempDir::new().expect("a folder");
    let folder = home.path().join("mine");
    let mut files = model_files(10);
    files.remove("model.safetensors");
    files.insert("model.safetensors.index.json".to_owned(), INDEX.into());
    files.insert("model-1.safetensors".to_owned(), b"weights".into());
    write_files(&folder, &files);
    let given = ModelRef::Folder(folder.clone());
    let text = fetcher(&home).model(&given).expect_err("a file of the index is missing").to_string();
    assert!(text.contains("is missing model-2.safetensors;"), "{text}");
    fs::write(folder.join("model-2.safetensors"), "weights").expect("a file");
    assert_eq!(fetcher(&home).model(&given).expect("the model"), folder);
    fs::write(folder.join("model.safetensors.index.json"), "{").expect("a file");
    let text = fetcher(&home).model(&given).expect_err("an invalid index").to_string();
    assert!(text.contains("`model.safetensors.index.json` of") && text.contains("is invalid"), "{text}");
    fs::remove_file(folder.join("model.safetensors.index.json")).expect("a removal");
    fs::write(folder.join("pytorch_model.bin"), "weights").expect("a file");
    assert_eq!(fetcher(&home).model(&given).expect("the model"), folder);
}

/// Files that some versions of sentence-transformers and transformers do not write.
const OPTIONAL: [&str; 3] = ["special_tokens_map.json", "tokenizer_config.json", "sentence_bert_config.json"];

#[test]
fn a_model_without_optional_files_is_complete() {
    let home = TempDir::new().expect("a folder");
    let mut files = model_files(10);
    for file in OPTIONAL {
        files.remove(file).expect("a file of the model");
    }
    let folder = home.path().join("mine");
    write_files(&folder, &files);
    assert_eq!(fetcher(&home).model(&ModelRef::Folder(folder.clone())).expect("the model"), folder);

    let server = HubServer::start(files);
    let fetched = fetcher(&home).origin(Origin::Hub).hub_endpoint(&server.address).model(&model(MODEL));
    let fetched = fetched.expect("the model");
    assert!(fetched.join("tokenizer.json").is_file());
    assert!(OPTIONAL.iter().all(|file| !fetched.join(file).exists()));
}

#[test]
fn offline_mode_fetches_nothing() {
    let home = TempDir::new().expect("a folder");
    let text = fetcher(&home).offline(true).model(&model(MODEL)).expect_err("the cache is empty").to_string();
    for part in [MODEL, "never fetched", "EMBEDD_HOME", "models/somebody--small"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!home.path().join("home").exists(), "nothing was written");
}

#[test]
fn a_configured_library_must_exist() {
    let home = TempDir::new().expect("a folder");
    let library = home.path().join("libonnxruntime.so");
    let named = fetcher(&home).runtime_library(Some(library.clone()));
    assert!(named.runtime(RuntimeBuild::Cpu).expect_err("a missing file").to_string().contains("ORT_DYLIB_PATH"));
    fs::write(&library, "").expect("a file");
    let configured = RuntimeLibrary { path: library, sha256: None, dependencies: Vec::new() };
    assert_eq!(named.runtime(RuntimeBuild::Cpu).expect("the library"), configured, "its digest is the user's choice");
    let folder = fetcher(&home).runtime_library(Some(home.path().to_owned()));
    assert!(folder.runtime(RuntimeBuild::Cpu).expect_err("a folder").to_string().contains("not a file"));
    let unknown = fetcher(&home).runtime(RuntimeBuild::Cpu).expect_err("an empty catalog").to_string();
    assert!(unknown.contains("ORT_DYLIB_PATH") && unknown.contains(std::env::consts::ARCH), "{unknown}");
}

#[test]
fn a_file_in_place_of_the_cache_folder_is_reported() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(10));
    fs::write(home.path().join("home"), "").expect("a file");
    let error = fetcher(&home).hub_endpoint(&server.address).model(&model(MODEL)).expect_err("a file");
    assert!(matches!(error, FetchError::NotAFolder { .. }), "{error}");
    assert!(error.to_string().contains("EMBEDD_HOME"), "{error}");
    assert_eq!(server.requests().len(), 0, "the error precedes any request");
}

#[test]
fn damage_is_detected_by_size_and_on_request_by_digest() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(1000));
    let fetcher = fetcher(&home).origin(Origin::Hub).hub_endpoint(&server.address);
    let folder = fetcher.model(&model(MODEL)).expect("the model");
    fs::write(folder.join("model.safetensors"), vec![0; 1000]).expect("a file");
    fetcher.model(&model(MODEL)).expect("the size is right");
    let text = fetcher.clone().verify(true).offline(true).model(&model(MODEL)).expect_err("the contents are wrong");
    assert!(text.to_string().contains("`model.safetensors`: expected sha256"), "{text}");
    fs::write(folder.join("model.safetensors"), vec![0; 999]).expect("a file");
    let text = fetcher.clone().offline(true).model(&model(MODEL)).expect_err("the size is wrong");
    assert!(text.to_string().contains("expected 1000 bytes, found 999 bytes"), "{text}");
    fs::write(folder.join(RECORD_FILE), "{").expect("a file");
    fetcher.model(&model(MODEL)).expect("fetched again");
    fetcher.verify(true).offline(true).model(&model(MODEL)).expect("all files are intact");
}

#[test]
fn concurrent_callers_fetch_once() {
    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(100_000));
    let fetcher = fetcher(&home).origin(Origin::Hub).hub_endpoint(&server.address);
    std::thread::scope(|scope| {
        let callers = [(); 4].map(|()| scope.spawn(|| fetcher.model(&model(MODEL))));
        for caller in callers {
            caller.join().expect("no panic").expect("the model");
        }
    });
    let weights = server.requests().iter().filter(|request| request.path.ends_with("model.safetensors")).count();
    assert_eq!(weights, 1);
}

#[test]
fn an_origin_is_parsed_from_its_name() {
    assert_eq!("pip".parse(), Ok(Origin::Pip));
    assert_eq!("auto".parse(), Ok(Origin::Auto));
    assert!("PyPI".parse::<Origin>().expect_err("not an origin").to_string().contains("`hub`"));
}

#[test]
fn a_relative_library_is_found_from_the_working_directory_and_becomes_absolute() {
    let home = TempDir::new().expect("a folder");
    // Exists in the working directory of every test.
    let named = fetcher(&home).runtime_library(Some("Cargo.toml".into()));
    let absolute = std::env::current_dir().expect("a folder").join("Cargo.toml");
    assert_eq!(named.runtime(RuntimeBuild::Cpu).expect("the library").path, absolute);
}

#[test]
fn the_cache_folder_is_created_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = TempDir::new().expect("a folder");
    let server = HubServer::start(model_files(10));
    let fetcher = fetcher(&home).origin(Origin::Hub).hub_endpoint(&server.address);
    fetcher.model(&model(MODEL)).expect("the model");
    let mode = |path: &Path| path.metadata().expect("a folder").permissions().mode() & 0o7777;
    assert_eq!(mode(fetcher.home.root()), 0o700);
    assert_eq!(fetcher.home.warning(), None);
    fs::set_permissions(fetcher.home.root(), fs::Permissions::from_mode(0o775)).expect("a mode");
    fetcher.verify(true).model(&model(MODEL)).expect("the model");
    let shared = Home::at(home.path().join("home"));
    assert_eq!(mode(shared.root()), 0o775, "the mode of an existing folder is kept");
    let warning = shared.warning().expect("a warning");
    assert!(warning.contains("mode 775") && warning.contains("chmod go-w"), "{warning}");
}

#[test]
fn a_folder_of_a_transformer_alone_or_with_only_a_vocabulary_is_complete() {
    let home = TempDir::new().expect("a folder");
    let folder = home.path().join("mine");
    let mut files = model_files(10);
    files.remove("modules.json");
    files.remove("1_Pooling/config.json");
    files.remove("tokenizer.json");
    files.insert("vocab.txt".to_owned(), b"[UNK]\n".into());
    write_files(&folder, &files);
    assert_eq!(fetcher(&home).model(&ModelRef::Folder(folder.clone())).expect("the model"), folder);
    let modules = r#"[{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]"#;
    fs::write(folder.join("modules.json"), modules).expect("a file");
    let text = fetcher(&home).model(&ModelRef::Folder(folder.clone())).expect_err("an empty folder").to_string();
    assert!(text.contains("is missing 0_Transformer/config.json, 0_Transformer/tokenizer.json, 0_T"), "{text}");
    fs::create_dir(folder.join("0_Transformer")).expect("a folder");
    for file in ["config.json", "vocab.txt", "model.safetensors"] {
        fs::rename(folder.join(file), folder.join("0_Transformer").join(file)).expect("a move");
    }
    assert_eq!(fetcher(&home).model(&ModelRef::Folder(folder.clone())).expect("the model"), folder);
}

#[test]
fn the_weights_of_modules_belong_to_a_complete_folder() {
    let home = TempDir::new().expect("a folder");
    let folder = home.path().join("mine");
    let mut files = model_files(10);
    files.insert("modules.json".to_owned(), super::layouts::DENSE_MODULES.into());
    write_files(&folder, &files);
    let text = fetcher(&home).model(&ModelRef::Folder(folder.clone())).expect_err("no Dense").to_string();
    assert!(
        text.contains("is missing 2_Dense/config.json, 3_LayerNorm/config.json, 2_Dense/model.safetensors"),
        "{text}"
    );
    fs::create_dir(folder.join("2_Dense")).expect("a folder");
    fs::write(folder.join("2_Dense/config.json"), "{}").expect("a file");
    let modules = super::layouts::DENSE_MODULES.replace("LayerNorm", "Normalize");
    fs::write(folder.join("modules.json"), modules).expect("a file");
    fs::write(folder.join("2_Dense/pytorch_model.bin"), "weights").expect("a file");
    assert_eq!(fetcher(&home).model(&ModelRef::Folder(folder.clone())).expect("the model"), folder);
}
