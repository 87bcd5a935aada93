//! Fetching aside and moving in place: one process at a time, and the place is whole or not there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::catalog::Pin;
use super::copy::{make_folder, sync_folder, to_new_file};
use super::error::FetchError;
use super::record::{FileRecord, RECORD_FILE, Record, Source};
use crate::home::Home;
use embedd_common::progress::{Progress, Task};

/// Begins the names of folders that die with the fetch that made them.
const SCRATCH: &str = "scratch-";

/// Something to fetch.
#[derive(Debug)]
pub(super) struct Goal {
    /// What people call it.
    pub(super) what: String,
    /// What its folder below `partial/` is called.
    pub(super) key: String,
    /// Where it will be.
    pub(super) place: PathBuf,
    /// What must be true of its files.
    pub(super) pins: Vec<Pin>,
}

/// The folder in which one goal is worked at, ours alone while this exists.
#[derive(Debug)]
pub(super) struct Work {
    dir: PathBuf,
    /// The lock goes with the file; the file stays, for to remove it would let two processes lock two files.
    _lock: File,
}

impl Work {
    /// Waits until no other process works at the goal.
    pub(super) fn begin(home: &Home, goal: &Goal, progress: &Progress) -> Result<Self, FetchError> {
        let partial = home.partial_dir();
        make_folder(&partial)?;
        let lock = lock(&partial.join(format!("{}.lock", goal.key)), &goal.what, progress)?;
        let dir = partial.join(&goal.key);
        make_folder(&dir)?;
        remove_scratch(&dir);
        Ok(Self { dir, _lock: lock })
    }

    /// Where files are kept from one try to the next.
    pub(super) fn kept(&self, name: &str) -> Result<PathBuf, FetchError> {
        let kept = self.dir.join(name);
        make_folder(&kept)?;
        Ok(kept)
    }

    /// A folder that is removed when it is dropped.
    pub(super) fn scratch(&self) -> Result<TempDir, FetchError> {
        let made = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&self.dir);
        made.map_err(|error| FetchError::io("create a folder in", &self.dir, error))
    }

    /// An empty folder that will become the goal's place.
    pub(super) fn staging(&self, goal: &Goal) -> Result<Staging, FetchError> {
        let scratch = self.scratch()?;
        // Not the scratch folder itself, which only this user may read.
        let dir = scratch.path().join("whole");
        make_folder(&dir)?;
        Ok(Staging { scratch, dir, what: goal.what.clone(), pins: goal.pins.clone(), files: BTreeMap::new() })
    }

    /// Removes what was kept: the goal is reached, and litter does not change that.
    pub(super) fn end(self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Only empty folders go: what a later try can go on with stays.
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

fn lock(path: &Path, what: &str, progress: &Progress) -> Result<File, FetchError> {
    let failed = |error| FetchError::io("lock", path, error);
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    let waiting = || progress.note(&format!("another process is fetching {what}; waiting for it"));
    embedd_common::lock::lock(&file, waiting).map_err(failed)?;
    Ok(file)
}

/// Removes what a fetch that was killed has left. Its pip may live on for a while and write there: what cannot be
/// removed now is removed at the end.
fn remove_scratch(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A folder on its way to its place.
#[derive(Debug)]
pub(super) struct Staging {
    scratch: TempDir,
    dir: PathBuf,
    what: String,
    pins: Vec<Pin>,
    files: BTreeMap<String, FileRecord>,
}

impl Staging {
    /// Adds the file `name` with what is read from `from`, a member of `archive`, and checks it.
    pub(super) fn add(
        &mut self,
        name: &str,
        from: &mut dyn Read,
        archive: &str,
        bytes: u64,
        task: Option<&Task>,
    ) -> Result<(), FetchError> {
        let path = self.path_of(name)?;
        let file = to_new_file(from, archive, &path, bytes, task)?;
        self.check(name, &file)?;
        self.files.insert(name.to_owned(), file);
        Ok(())
    }

    /// Moves the whole and checked file at `from` in as `name`.
    pub(super) fn adopt(&mut self, name: &str, from: &Path, file: FileRecord) -> Result<(), FetchError> {
        self.check(name, &file)?;
        let path = self.path_of(name)?;
        fs::rename(from, &path).map_err(|error| FetchError::io("move a file to", &path, error))?;
        self.files.insert(name.to_owned(), file);
        Ok(())
    }

    /// The contents of a file that was added.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, FetchError> {
        let path = self.dir.join(name);
        fs::read(&path).map_err(|error| FetchError::io("read", &path, error))
    }

    /// Lets the file `name` be run.
    pub(super) fn make_executable(&self, name: &str) -> Result<(), FetchError> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let path = self.dir.join(name);
            let set = fs::set_permissions(&path, fs::Permissions::from_mode(0o755));
            set.map_err(|error| FetchError::io("make executable", &path, error))?;
        }
        #[cfg(not(unix))]
        let _ = name;
        Ok(())
    }

    /// Writes the record and moves everything to `place`, whatever was there.
    pub(super) fn install(self, place: &Path, source: Source) -> Result<(), FetchError> {
        let record = self.dir.join(RECORD_FILE);
        let json = Record::new(source, self.files).to_json();
        let json = json.map_err(|error| FetchError::io("write", &record, error))?;
        to_new_file(&mut json.as_slice(), RECORD_FILE, &record, json.len() as u64, None)?;
        sync_folder(&self.dir)?;
        let above = place.parent().unwrap_or(place);
        make_folder(above)?;
        if place.symlink_metadata().is_ok() {
            // A rename cannot replace a folder that holds something.
            let old = self.scratch.path().join("old");
            fs::rename(place, &old).map_err(|error| FetchError::io("move away", place, error))?;
        }
        fs::rename(&self.dir, place).map_err(|error| FetchError::io("move a folder to", place, error))?;
        sync_folder(above)
    }

    fn path_of(&self, name: &str) -> Result<PathBuf, FetchError> {
        let path = self.dir.join(name);
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        Ok(path)
    }

    fn check(&self, name: &str, file: &FileRecord) -> Result<(), FetchError> {
        match self.pins.iter().find(|pin| pin.file == name) {
            Some(pin) if pin.sha256 != file.sha256.as_str() => Err(FetchError::Checksum {
                what: self.what.clone(),
                file: name.to_owned(),
                found: file.sha256.clone(),
                expected: pin.sha256.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}
