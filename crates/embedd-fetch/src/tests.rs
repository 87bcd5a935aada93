//! Helpers shared by the tests.

mod configuration;
mod hub;
mod hub_server;
mod layouts;
mod pip;
mod places;
mod revisions;
mod runtime;
mod token;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use embedd_common::checksum::Sha256Hex;

const MODEL: &str = "somebody/small";
const MODULES_JSON: &str = r#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]"#;

/// An index of two files with weights.
const INDEX: &str = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;

/// The files of a model, with `weights` bytes of incompressible weights.
fn model_files(weights: usize) -> BTreeMap<String, Vec<u8>> {
    let mut seed = 1_u64;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    });
    let small = [
        "config.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "1_Pooling/config.json",
        "README.md",
        "desktop.ini",
    ];
    let mut files: BTreeMap<_, _> = small.map(|file| (file.to_owned(), format!("\"{file}\"").into_bytes())).into();
    files.insert("modules.json".to_owned(), MODULES_JSON.into());
    files.insert("model.safetensors".to_owned(), noise.take(weights).collect());
    files
}

fn write_files(folder: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
}

/// A fetcher with an empty cache folder and an empty catalog.
fn fetcher(home: &TempDir) -> Fetcher {
    static EMPTY: Catalog = Catalog { runtimes: &[], models: &[] };
    let mut fetcher =
        Fetcher::new(Home::at(home.path().join("home")), Progress::silent()).hub_endpoint(unused_address());
    fetcher.settings.hub.retry.pause = Duration::from_millis(1);
    fetcher.catalog = &EMPTY;
    fetcher
}

fn model(id: &str) -> ModelRef {
    id.parse().expect("a hub id")
}

/// A local address without a listener.
fn unused_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("its address"))
}

fn sha256(bytes: &[u8]) -> &'static str {
    leak(Sha256Hex::of(bytes).as_str())
}

/// Makes a computed string usable in a catalog, which is static.
fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

/// Every file in the cache folder except lock files, which are kept.
fn files_in(home: &TempDir) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                walk(&entry.path(), root, found);
            } else if entry.path().extension().is_none_or(|extension| extension != "lock") {
                let path = entry.path();
                found.push(path.strip_prefix(root).expect("a path below the root").display().to_string());
            }
        }
    }
    let root = home.path().join("home");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found.sort();
    found
}
