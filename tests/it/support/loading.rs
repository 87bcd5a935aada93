//! A server whose model does not finish loading until the test allows it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Mutex;

use embedd_common::atomic::{lock_file, sibling};
use embedd_fetch::home::Home;
use embedd_fetch::model_ref::ModelRef;

use super::models::{Model, copy_of};
use super::server::{Server, serve_anything, temporary_folder};

/// The test is another process that converts the same model: the server waits for it.
pub(crate) struct Loading {
    pub(crate) server: Server,
    model: Model,
    /// Where the server expects the bundle.
    bundle: PathBuf,
    lock: Mutex<Option<File>>,
    _folder: tempfile::TempDir,
}

impl Loading {
    pub(crate) fn start(model: Model, flags: &[&str]) -> Self {
        // Converted here if necessary, because `finish` blocks the thread of the test, and with it its connections.
        model.bundle();
        let (guard, folder) = temporary_folder();
        let home = Home::at(&folder);
        let source = model.source();
        let bundle = home.bundles_dir().join(ModelRef::Folder(source.clone()).as_file_name());
        fs::create_dir_all(home.bundles_dir()).expect("a folder");
        let lock = lock_file(&sibling(&bundle, "lock"), || panic!("nobody else has it")).expect("the lock");
        let mut command = serve_anything(flags);
        command.arg("--home").arg(&folder).arg("--model").arg(source);
        Self { server: Server::spawn(&mut command), model, bundle, lock: Mutex::new(Some(lock)), _folder: guard }
    }

    /// Lets the model load, and waits until the server is ready.
    pub(crate) fn finish(&self) {
        copy_of(self.model, &self.bundle, &[]);
        drop(self.lock.lock().expect("no panic").take());
        self.server.wait_for_line("ready");
    }
}
