use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{PathError, create_folder, failed, sibling};
use crate::files::open_own;
use crate::lock::lock;

/// A file that is written under a hidden name beside its destination and renamed when it is complete.
///
/// If it is dropped before [`commit`](Self::commit), the staging file is removed. A file that a killed process left
/// behind is reused by the next writer.
#[derive(Debug)]
pub struct StagedFile {
    destination: PathBuf,
    staging: PathBuf,
    /// Locked, so that two processes never write to the same destination.
    file: File,
    committed: bool,
}

impl StagedFile {
    /// Opens an empty staging file. Waits while another process writes to the same destination, so check
    /// afterwards whether the destination exists.
    ///
    /// # Errors
    /// The destination has no file name, or the staging file cannot be created or locked.
    pub fn create(destination: &Path) -> Result<Self, PathError> {
        let destination = std::path::absolute(destination).map_err(failed("find", destination))?;
        let (Some(parent), Some(_)) = (destination.parent(), destination.file_name()) else {
            return Err(failed("create", &destination)(io::ErrorKind::IsADirectory.into()));
        };
        create_folder(parent)?;
        let staging = sibling(&destination, "partial");
        let file = lock_current(&staging).map_err(failed("lock", &staging))?;
        // From here on, the staging file is removed on drop.
        let staged = Self { destination, staging, file, committed: false };
        staged.file.set_len(0).map_err(failed("write", &staged.staging))?;
        Ok(staged)
    }

    /// The absolute path of the destination.
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// The staging file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Syncs the file and renames it to its destination, replacing any existing file. Returns the destination.
    ///
    /// # Errors
    /// The file cannot be synced or renamed.
    pub fn commit(mut self) -> Result<PathBuf, PathError> {
        self.file.sync_all().map_err(failed("write", &self.staging))?;
        fs::rename(&self.staging, &self.destination).map_err(failed("move a file to", &self.destination))?;
        self.committed = true;
        Ok(self.destination.clone())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.committed {
            // A file that cannot be removed is reused by the next writer.
            let _ = fs::remove_file(&self.staging);
        }
    }
}

/// Opens and locks the file at `path`. While this process waits for the lock, the holder may rename or remove the file.
/// In that case, tries again with the file that is now at `path`.
fn lock_current(path: &Path) -> io::Result<File> {
    loop {
        let file = open_own(path, File::options().create(true).write(true))?;
        lock(&file, || {})?;
        match fs::metadata(path) {
            Ok(current) if is_same_file(&current, &file.metadata()?) => return Ok(file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

#[cfg(unix)]
fn is_same_file(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Other systems do not let an open file be renamed or removed.
#[cfg(not(unix))]
fn is_same_file(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}
