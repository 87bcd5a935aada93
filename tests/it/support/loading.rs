//! A server whose model does not finish loading until the test allows it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use embedd_model::bundle::MANIFEST_FILE;

use super::models::{Model, copy_of};
use super::server::{Server, serve, temporary_folder};

/// The manifest of its bundle is a named pipe, so the server waits until the test writes to it.
pub(crate) struct Loading {
    pub(crate) server: Server,
    pipe: PathBuf,
    manifest: Vec<u8>,
    _folder: tempfile::TempDir,
}

impl Loading {
    pub(crate) fn start(model: Model, flags: &[&str]) -> Self {
        let (guard, folder) = temporary_folder();
        copy_of(model, &folder, &[MANIFEST_FILE]);
        let pipe = folder.join(MANIFEST_FILE);
        let manifest = fs::read(&pipe).expect("the manifest");
        fs::remove_file(&pipe).expect("removed");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        Self { server: Server::spawn(&mut serve(&folder, flags)), pipe, manifest, _folder: guard }
    }

    /// Lets the model load, and waits until the server is ready.
    pub(crate) fn finish(&self) {
        fs::write(&self.pipe, &self.manifest).expect("the server reads it");
        self.server.wait_for_line("ready");
    }
}
