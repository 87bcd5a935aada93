//! `embedd fetch`: which pip it runs, and with which configuration; revisions and tokens of the hub.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::hub_server::HubServer;
use crate::support::models::fetcher;
use crate::support::server::{command, temporary_folder};
use embedd_fetch::RuntimeBuild;
use embedd_model::bundle::Bundle;

#[test]
fn pip_is_the_installed_one_with_the_users_configuration() {
    let (_folder, folder) = temporary_folder();
    let working_directory = folder.join("work");
    fs::create_dir_all(&working_directory).expect("a folder");
    let executed = folder.join("executed");
    let module = format!("open({:?}, 'w').close()\n", executed.to_str().expect("text"));
    // `random` and `logging` are modules that pip imports.
    for name in ["pip.py", "random.py", "logging.py", "usercustomize.py", "sitecustomize.py"] {
        fs::write(working_directory.join(name), &module).expect("a module");
    }
    // Needs no network: the user's configuration file disables pip's index.
    let configuration = folder.join("pip.conf");
    fs::write(&configuration, "[global]\nno-index = true\nfind-links =\nrequire-virtualenv = true\n").expect("a file");
    for python_path in ["", ".", working_directory.to_str().expect("text")] {
        let mut fetch = command();
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PIP_")) {
            fetch.env_remove(name);
        }
        fetch.args(["fetch", "--no-model"]).current_dir(&working_directory);
        fetch.env("EMBEDD_HOME", folder.join("home")).env("PYTHONPATH", python_path);
        fetch.env("PIP_CONFIG_FILE", &configuration).env("PIP_REQUIRE_VIRTUALENV", "1").env("PIP_REQUIRE_HASHES", "1");
        let output = fetch.output().expect("the program runs");
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!executed.exists(), "a module in the working directory was executed (PYTHONPATH={python_path:?})");
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(printed.contains("No matching distribution found for onnxruntime"), "{printed}");
    }
}

/// A hub with a model whose transformer has a folder of its own.
fn hub() -> HubServer {
    fn add(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).expect("a fixture") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            match path.is_dir() {
                true => add(&path, &format!("{prefix}{name}/"), files),
                false => drop(files.insert(format!("{prefix}{name}"), fs::read(&path).expect("a file"))),
            }
        }
    }
    let mut files = BTreeMap::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/bert-0-transformer");
    add(&fixture, "", &mut files);
    HubServer::start(files)
}

/// A command that uses this hub, the cache folder `home` in `folder`, and the token of a login.
fn with_hub(hub: &HubServer, folder: &Path, args: &[&str]) -> Command {
    fs::create_dir_all(folder.join("login")).expect("a folder");
    fs::write(folder.join("login/token"), "hf_secret\n").expect("a token");
    let library = fetcher().runtime(RuntimeBuild::Cpu).expect("ONNX Runtime can be fetched").path;
    let mut command = command();
    for variable in
        ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"]
    {
        command.env_remove(variable);
    }
    command.args(args).env("HF_ENDPOINT", &hub.address).env("HF_HOME", folder.join("login"));
    command.env("EMBEDD_HOME", folder.join("home")).env("EMBEDD_ONNXRUNTIME", library);
    command
}

fn printed(output: &Output) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("hf_secret"), "{text}");
    text
}

#[test]
fn a_revision_is_converted_into_its_own_bundle_and_recorded() {
    let (_folder, folder) = temporary_folder();
    let hub = hub();
    let args = ["convert", "--model", "org/small", "--revision", "refs/pr/1", "--precision", "fp32", "--no-report"];
    let text = printed(&with_hub(&hub, &folder, &args).output().expect("the program runs"));
    let bundles: Vec<_> = fs::read_dir(folder.join("home/bundles")).expect("a folder").flatten().collect();
    let bundles = bundles.iter().map(fs::DirEntry::path).filter(|path| path.is_dir());
    let [bundle] = &bundles.collect::<Vec<_>>()[..] else { panic!("one bundle: {text}") };
    let name = bundle.file_name().expect("a name").to_string_lossy();
    assert!(name.starts_with("org--small@refs-pr-1-"), "{name}");
    let bundle = Bundle::open(bundle).expect("a bundle");
    let source = &bundle.manifest().source;
    assert_eq!((source.revision.as_deref(), source.commit.as_deref()), (Some("refs/pr/1"), Some("c0ffee")));
    assert_eq!(bundle.manifest().name, "org/small");

    let requests = hub.requests();
    assert!(requests[0].path.ends_with("/org/small/resolve/refs%2Fpr%2F1/modules.json"), "{}", requests[0].path);
    let authorized = |token: &String| token == "Bearer hf_secret";
    assert!(requests.iter().all(|request| request.headers.get("authorization").is_some_and(authorized)));
}

#[test]
fn an_unsupported_model_is_rejected_before_its_weights_are_downloaded() {
    let (_folder, folder) = temporary_folder();
    let hub = hub();
    hub.behave(|hub| {
        let modules = String::from_utf8(hub.files["modules.json"].clone()).expect("text");
        hub.files.insert("modules.json".to_owned(), modules.replace("models.Normalize", "models.LSTM").into_bytes());
    });
    let output = with_hub(&hub, &folder, &["fetch", "--model", "org/small"]).output().expect("the program runs");
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("`org/small` cannot be used: modules.json: the module chain"), "{text}");
    assert!(text.contains("its weights were not downloaded"), "{text}");
    assert!(hub.requests().iter().all(|request| !request.path.ends_with(".safetensors")));
    let left = fs::read_dir(folder.join("home/models")).into_iter().flatten().count();
    assert_eq!(left, 0, "nothing that a later start could take for a model");
}

#[test]
fn a_model_of_the_hub_is_described_without_its_weights() {
    let (_folder, folder) = temporary_folder();
    let hub = hub();
    let describe = |args: &[&str]| {
        let args = [&["convert", "--describe", "--model", "org/small"], args].concat();
        with_hub(&hub, &folder, &args).output().expect("the program runs")
    };
    let output = describe(&["--revision", "refs/pr/1", "--json"]);
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let source = serde_json::json!({ "model": "org/small", "revision": "refs/pr/1", "commit": "c0ffee" });
    assert_eq!((&found["name"], &found["source"]), (&"org/small".into(), &source));
    assert_eq!((&found["architecture"], &found["weights"][0]["found"]), (&"bert".into(), &false.into()));
    assert!(hub.requests().iter().all(|request| !request.path.contains("model")), "no weights");
    let left = fs::read_dir(folder.join("home/models")).into_iter().flatten().count();
    assert_eq!(left, 0, "nothing that a later start could take for a model");

    let fetched = with_hub(&hub, &folder, &["fetch", "--model", "org/small"]).output().expect("the program runs");
    assert_eq!(fetched.status.code(), Some(0), "{}", printed(&fetched));
    let requests = hub.requests().len();
    let text = printed(&describe(&["--offline"]));
    for part in ["org/small on the hub, revision main (commit c0ffee)", "0_Transformer/model.safetensors\n"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(hub.requests().len(), requests, "a fetched model is read in place");

    hub.behave(|hub| drop(hub.files.insert("1_Pooling/config.json".to_owned(), b"{}".to_vec())));
    let message = |args: &[&str]| {
        let output = with_hub(&hub, &folder, args).args(["--model", "org/small", "--revision", "v2"]).output();
        let output = output.expect("the program runs");
        assert_eq!(output.status.code(), Some(1));
        printed(&output).lines().last().expect("an error").to_owned()
    };
    let described = message(&["convert", "--describe"]);
    assert!(described.contains("1_Pooling/config.json: embedding_dimension is missing"), "{described}");
    assert_eq!(described, message(&["convert"]));
}

#[test]
fn a_revision_must_have_a_valid_name_and_a_model_of_the_hub() {
    let (_folder, folder) = temporary_folder();
    let hub = hub();
    for (args, part) in [
        (["--model", "org/small", "--revision", "../x"], "the name of a branch, a tag, a commit"),
        (["--model", "./small", "--revision", "v1"], "only models from the hub have revisions"),
    ] {
        for name in ["fetch", "convert", "serve"] {
            let output = with_hub(&hub, &folder, &[name]).args(args).output().expect("the program runs");
            let text = printed(&output);
            assert_eq!(output.status.code(), Some(64), "{text}");
            assert!(text.contains(part), "{text}");
        }
    }
    assert!(hub.requests().is_empty());
}
