//! Fetches into a staging folder and moves it to its destination. Only one process at a time works on a target.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::catalog::Pin;
use super::check::Check;
use super::copy::MemberReader;
use super::error::FetchError;
use super::layout;
use super::record::{RECORD_FILE, Record, Source};
use crate::home::Home;
use embedd_common::atomic::{StagedFolder, create_folder, lock_file, remove_leftovers, write_file};
use embedd_common::checksum::FileRecord;
use embedd_common::files::read_bounded;
use embedd_common::progress::{Progress, Task};

/// Prefix of folders that are removed when the fetch that created them ends.
const SCRATCH: &str = "scratch-";

/// Something to fetch.
#[derive(Debug)]
pub(super) struct Target {
    /// Its name in messages.
    pub(super) what: String,
    /// The name of its folder in `partial/`.
    pub(super) key: String,
    pub(super) destination: PathBuf,
    /// The digests that its files must have.
    pub(super) pins: Vec<Pin>,
}

/// The working folder of one target. No other process uses it while this value exists.
#[derive(Debug)]
pub(super) struct Work {
    dir: PathBuf,
    _lock: File,
}

impl Work {
    /// Waits until no other process works on the target.
    pub(super) fn begin(home: &Home, target: &Target, progress: &Progress) -> Result<Self, FetchError> {
        home.create()?;
        let partial = home.partial_dir();
        create_folder(&partial)?;
        let waiting = || progress.note(&format!("waiting for another process that is fetching {}", target.what));
        let lock = lock_file(&partial.join(format!("{}.lock", target.key)), waiting)?;
        let dir = partial.join(&target.key);
        create_folder(&dir)?;
        remove_leftovers(&dir, SCRATCH);
        Ok(Self { dir, _lock: lock })
    }

    /// A folder for files that are kept between attempts.
    pub(super) fn kept(&self, name: &str) -> Result<PathBuf, FetchError> {
        let kept = self.dir.join(name);
        create_folder(&kept)?;
        Ok(kept)
    }

    /// A temporary folder that is removed on drop.
    pub(super) fn scratch(&self) -> Result<TempDir, FetchError> {
        let created = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&self.dir);
        created.map_err(|error| FetchError::io("create a folder in", &self.dir, error))
    }

    /// An empty folder that can be moved to the target's destination.
    pub(super) fn staging(&self, target: &Target) -> Result<Staging, FetchError> {
        let scratch = self.scratch()?;
        // Not the scratch folder itself, which only this user may read.
        let folder = StagedFolder::create(scratch.path().join("staging"), scratch.path().join("replaced"))?;
        Ok(Staging { folder, what: target.what.clone(), pins: target.pins.clone(), _scratch: scratch })
    }

    /// Removes the kept files of a target that was fetched. Leftovers are harmless, so errors are ignored.
    pub(super) fn end(self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Only empty folders are removed; a later attempt resumes from the rest.
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

/// A folder whose files are checked against their pins before it is moved to its destination.
#[derive(Debug)]
pub(super) struct Staging {
    folder: StagedFolder,
    what: String,
    pins: Vec<Pin>,
    _scratch: TempDir,
}

impl Staging {
    /// Adds the file `name` from an archive, and checks it.
    pub(super) fn add(&mut self, name: &str, from: MemberReader<'_>, task: Option<&Task>) -> Result<(), FetchError> {
        let path = self.folder.path(name);
        let bytes = from.length;
        let written = self.folder.write(name, |out| from.copy_to(out, &path, task));
        let record = written.map_err(|error: FetchError| error.needing(bytes))?.clone();
        self.check(name, &record)
    }

    /// Checks the complete, synced file at `from` and moves it into the folder as `name`.
    pub(super) fn move_in(&mut self, name: &str, from: &Path, record: FileRecord) -> Result<(), FetchError> {
        self.check(name, &record)?;
        Ok(self.folder.move_in(name, from, record)?)
    }

    /// The path of the folder.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path("")
    }

    /// The contents of a small file in the folder.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, FetchError> {
        let path = self.folder.path(name);
        read_bounded(&path, layout::max_bytes(name)).map_err(|error| FetchError::io("read", &path, error))
    }

    /// Lets the caller decide whether the model is worth the download of its weights, which are missing so far.
    pub(super) fn inspect(&self, check: &Check) -> Result<(), FetchError> {
        let folder = self.path();
        check.run(&folder).map_err(|reason| {
            // The folder is removed, so that its path would mislead.
            let prefix = format!("{}/", folder.display().to_string().trim_end_matches('/'));
            FetchError::Rejected { model: self.what.clone(), reason: reason.replace(&prefix, "") }
        })
    }

    /// Writes the record and moves the folder to `destination`, replacing whatever is there.
    pub(super) fn install(self, destination: &Path, source: Source) -> Result<(), FetchError> {
        let path = self.folder.path(RECORD_FILE);
        let failed = |error| FetchError::io("write", &path, error);
        let json = Record::new(source, self.folder.files().clone()).to_json().map_err(failed)?;
        write_file(&path, |out| out.write_all(&json).map_err(failed))?;
        Ok(self.folder.commit(destination)?)
    }

    fn check(&self, name: &str, record: &FileRecord) -> Result<(), FetchError> {
        match self.pins.iter().find(|pin| pin.file == name) {
            Some(pin) if pin.sha256 != record.sha256.as_str() => Err(FetchError::Checksum {
                what: self.what.clone(),
                file: name.to_owned(),
                found: record.sha256.clone(),
                expected: pin.sha256.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}
