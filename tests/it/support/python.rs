//! Python with pinned packages, installed once in the cache folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use embedd_common::checksum::Sha256Hex;

use super::models::tools_folder;

/// The packages of programs that run a model themselves.
pub(crate) const DETECTOR: &[&str] = &["onnxruntime==1.32.0", "numpy==2.4.6", "tokenizers==0.23.3"];

/// Written last. An environment cannot be staged and renamed, because it contains its own path.
const MARKER: &str = "whole";

/// The interpreter of a virtual environment with these requirements, each `name==version`.
pub(crate) fn interpreter(requirements: &[&str]) -> PathBuf {
    let hash = Sha256Hex::of(requirements.join("\n").as_bytes());
    let folder = tools_folder().join(format!("python-{}", &hash.as_str()[..12]));
    fs::create_dir_all(tools_folder()).expect("the folder for tools");
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    // Other tests and other test runs wait here until the environment is complete.
    lock.lock().expect("a lock");
    let python = folder.join("bin/python");
    if !folder.join(MARKER).is_file() || !runs(&python) {
        make(&folder, requirements);
    }
    python
}

fn make(folder: &Path, requirements: &[&str]) {
    if folder.exists() {
        fs::remove_dir_all(folder).expect("the broken environment can be removed");
    }
    let named = std::env::var_os("EMBEDD_PYTHON").unwrap_or_else(|| "python3".into());
    finish(Command::new(named).args(["-I", "-m", "venv"]).arg(folder), "Python 3 with its venv module is needed");
    let install = "-I -m pip install --quiet --disable-pip-version-check --no-input --only-binary=:all:";
    let mut pip = Command::new(folder.join("bin/python"));
    finish(pip.args(install.split(' ')).args(requirements), "pip must reach its index");
    fs::write(folder.join(MARKER), requirements.join("\n")).expect("the marker");
}

/// The system's Python, which an environment points to, may have been removed.
fn runs(python: &Path) -> bool {
    Command::new(python).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn finish(command: &mut Command, advice: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; {advice}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}; {advice}\n{text}", output.status);
}
