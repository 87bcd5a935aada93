//! A server whose model does not finish loading until the test allows it.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;

use embedd_common::atomic::{lock_file, sibling};
use embedd_fetch::home::Home;
use embedd_fetch::model_ref::ModelRef;

use super::models::{Model, copy_of};
use super::server::{Server, serve_model, temporary_folder};

/// The bundle of its model is missing, and the test holds the lock that the server needs to create it.
pub(crate) struct Loading {
    pub(crate) server: Server,
    model: Model,
    bundle: PathBuf,
    lock: Mutex<Option<File>>,
    _home: tempfile::TempDir,
}

impl Loading {
    pub(crate) fn start(model: Model, flags: &[&str]) -> Self {
        let (guard, folder) = temporary_folder();
        let home = Home::at(&folder);
        let source = model.source();
        let bundle = home.bundle_dir(&ModelRef::Folder(source.clone()));
        std::fs::create_dir_all(bundle.parent().expect("a parent")).expect("a folder");
        let lock = lock_file(&sibling(&bundle, "lock"), || {}).expect("a lock");
        let mut command = serve_model(&source, flags);
        command.env("EMBEDD_HOME", &folder);
        let lock = Mutex::new(Some(lock));
        Self { server: Server::spawn(&mut command), model, bundle, lock, _home: guard }
    }

    /// Lets the model load, and waits until the server is ready.
    pub(crate) fn finish(&self) {
        copy_of(self.model, &self.bundle, &[]);
        drop(self.lock.lock().expect("no panic").take());
        self.server.wait_for_line("ready");
    }
}
