//! Checks that `Dockerfile` and `deploy/` match this version of the program and each other.
//!
//! Whether Kubernetes and other programs accept them is tested by `.ci/manifests`.

mod balancing;
mod dashboard;
mod image;
mod manifests;
mod metrics;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The overlays of `deploy/base`.
const OVERLAYS: [&str; 5] = ["small", "mtls", "model-volume", "production", "gpu"];

/// A path in the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The documents of a YAML file.
fn documents(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Every file below a folder of the repository.
fn files_below(name: &str) -> Vec<PathBuf> {
    let mut folders = vec![path(name)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert!(!files.is_empty(), "{name} has files");
    files
}

/// Whether a file is a template of the Helm chart, which is YAML only once helm has rendered it. `.ci/manifests` does.
fn is_template(file: &Path) -> bool {
    file.parent().is_some_and(|folder| folder.ends_with("helm/embedd/templates"))
}

/// The resources of this kind in a folder of the repository, including patches.
fn resources(folder: &str, kind: &str) -> Vec<Value> {
    let is_yaml = |file: &PathBuf| file.extension().is_some_and(|name| name == "yaml");
    let files = files_below(folder).into_iter().filter(|file| is_yaml(file) && !is_template(file));
    files.flat_map(|file| documents(&file)).filter(|document| document["kind"] == kind).collect()
}

/// The resource of this kind in the base.
fn base(kind: &str) -> Value {
    let [resource] = resources("deploy/base", kind).try_into().expect("one resource");
    resource
}

/// Applies a patch to a resource, simplified to what these resources need: lists are concatenated.
fn merge(resource: &mut Value, patch: Value) {
    match (resource, patch) {
        (Value::Object(resource), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(resource.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(resource), Value::Array(patch)) => resource.extend(patch),
        (resource, patch) => *resource = patch,
    }
}

/// The pod of the base or of an overlay, with its only container.
fn pod(overlay: Option<&str>) -> Value {
    let mut pod = base("Deployment")["spec"]["template"].take();
    let mut container = pod["spec"]["containers"][0].take();
    for mut patch in overlay.map_or_else(Vec::new, |name| resources(&format!("deploy/overlays/{name}"), "Deployment")) {
        let mut patch = patch["spec"]["template"].take();
        merge(&mut container, patch["spec"]["containers"][0].take());
        patch["spec"].as_object_mut().expect("a pod").remove("containers");
        merge(&mut pod, patch);
    }
    pod["spec"]["containers"] = Value::Array(vec![container]);
    pod
}

/// The base and every overlay.
fn variants() -> impl Iterator<Item = Option<&'static str>> {
    std::iter::once(None).chain(OVERLAYS.map(Some))
}
