use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{FileWriter, PathError, create_folder, failed, remove, sync_folder, write_file};
use crate::checksum::FileRecord;

/// A folder that is filled under a staging name and renamed when it is complete. Records the length and digest of every
/// file. The caller must hold a lock on the destination.
///
/// If it is dropped before [`commit`](Self::commit), the staging folder is removed.
#[derive(Debug)]
pub struct StagedFolder {
    staging: PathBuf,
    displaced: PathBuf,
    files: BTreeMap<String, FileRecord>,
}

impl StagedFolder {
    /// Creates the empty folder `staging`. On commit, an existing folder at the destination is first moved to
    /// `displaced`. Both must be on the destination's file system. Anything that a killed process left there is
    /// removed.
    ///
    /// # Errors
    /// Leftovers cannot be removed, or the folder cannot be created.
    pub fn create(staging: PathBuf, displaced: PathBuf) -> Result<Self, PathError> {
        for leftover in [&staging, &displaced] {
            remove(leftover).map_err(failed("remove", leftover))?;
        }
        if let Some(parent) = staging.parent() {
            create_folder(parent)?;
        }
        // Fails if someone else has created it in the meantime, for example as a link.
        fs::create_dir(&staging).map_err(failed("create", &staging))?;
        Ok(Self { staging, displaced, files: BTreeMap::new() })
    }

    /// The path of a file until the folder is committed.
    pub fn path(&self, name: &str) -> PathBuf {
        self.staging.join(name)
    }

    /// The length and digest of each file, by name.
    pub fn files(&self) -> &BTreeMap<String, FileRecord> {
        &self.files
    }

    /// Writes the file `name`, which may be in a subfolder, and syncs it.
    ///
    /// # Errors
    /// The error of `write`, or a [`PathError`] if the file cannot be created or written.
    pub fn write<E: From<PathError>>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut FileWriter) -> Result<(), E>,
    ) -> Result<&FileRecord, E> {
        let record = write_file(&self.reserve(name)?, write)?;
        Ok(self.files.entry(name.to_owned()).insert_entry(record).into_mut())
    }

    /// Moves the synced file at `from` into the folder. It must be on the same file system.
    ///
    /// # Errors
    /// The file cannot be moved.
    pub fn move_in(&mut self, name: &str, from: &Path, record: FileRecord) -> Result<(), PathError> {
        let path = self.reserve(name)?;
        fs::rename(from, &path).map_err(failed("move a file to", &path))?;
        self.files.insert(name.to_owned(), record);
        Ok(())
    }

    /// Records a file that was written directly at its [`path`](Self::path).
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn adopt(&mut self, name: &str) -> Result<(), PathError> {
        let path = self.path(name);
        let record = FileRecord::of(&path).map_err(failed("read", &path))?;
        self.files.insert(name.to_owned(), record);
        Ok(())
    }

    /// Removes a file.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn discard(&mut self, name: &str) -> Result<(), PathError> {
        let path = self.path(name);
        self.files.remove(name);
        fs::remove_file(&path).map_err(failed("remove", &path))
    }

    /// Renames the folder to `destination`, replacing whatever is there.
    ///
    /// A folder that is not empty cannot be replaced by one rename. Readers see the old folder, then briefly none, then
    /// the new one, but never a mixture. If the second rename fails, the old folder is restored.
    ///
    /// # Errors
    /// The folder cannot be synced or renamed.
    pub fn commit(self, destination: &Path) -> Result<(), PathError> {
        sync_folder(&self.staging)?;
        let parent = destination.parent().unwrap_or(destination);
        create_folder(parent)?;
        let replaces = destination.symlink_metadata().is_ok();
        if replaces {
            fs::rename(destination, &self.displaced).map_err(failed("move away", destination))?;
        }
        if let Err(error) = fs::rename(&self.staging, destination) {
            if replaces {
                fs::rename(&self.displaced, destination).map_err(failed("restore", &self.displaced))?;
            }
            return Err(failed("move a folder to", destination)(error));
        }
        // The new folder is complete. Remains of the old one are removed by the next writer.
        let _ = remove(&self.displaced);
        sync_folder(parent)
    }

    /// Creates the subfolder of a new file, and returns the file's path.
    fn reserve(&self, name: &str) -> Result<PathBuf, PathError> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            create_folder(parent)?;
        }
        Ok(path)
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        // Does not exist after a commit. Otherwise, the next writer removes anything that is left.
        let _ = remove(&self.staging);
    }
}
