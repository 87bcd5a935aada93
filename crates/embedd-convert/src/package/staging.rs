//! A file that is written next to its destination and moved there when it is complete.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::PackageError;

/// Dropping it without [`persist`](Self::persist) removes the file. Remains of a killed process are reused.
#[derive(Debug)]
pub(super) struct StagedFile {
    output: PathBuf,
    path: PathBuf,
    /// Locked, so that only one process writes to the destination.
    file: File,
    persisted: bool,
}

impl StagedFile {
    /// Waits for other writers to the same destination. Replaces an existing file only if `replace` is set.
    pub(super) fn create(output: &Path, replace: bool) -> Result<Self, PackageError> {
        let output = std::path::absolute(output).map_err(|error| PackageError::io(output, error))?;
        let (Some(parent), Some(name)) = (output.parent(), output.file_name()) else {
            return Err(PackageError::OutputIsFolder(output));
        };
        fs::create_dir_all(parent).map_err(|error| PackageError::io(parent, error))?;
        let path = output.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        let file = lock(&path).map_err(|error| PackageError::io(&path, error))?;
        // From here on, dropping the value removes the file.
        let staged = Self { output, path, file, persisted: false };
        if staged.output.is_dir() {
            return Err(PackageError::OutputIsFolder(staged.output.clone()));
        }
        if staged.output.exists() && !replace {
            return Err(PackageError::OutputExists(staged.output.clone()));
        }
        staged.file.set_len(0).map_err(|error| PackageError::io(&staged.path, error))?;
        Ok(staged)
    }

    /// The destination.
    pub(super) fn output(&self) -> &Path {
        &self.output
    }

    /// The file, initially empty.
    pub(super) fn file(&mut self) -> &File {
        &self.file
    }

    /// Moves the file, which must be synced, to its destination, and returns that path.
    pub(super) fn persist(mut self) -> Result<PathBuf, PackageError> {
        fs::rename(&self.path, &self.output).map_err(|error| PackageError::io(&self.output, error))?;
        self.persisted = true;
        Ok(self.output.clone())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.persisted {
            // If this fails, the next process reuses the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens and locks the file at `path`. Retries if the file was moved while this process waited for the lock: only the
/// one that is still at `path` is valid.
fn lock(path: &Path) -> io::Result<File> {
    loop {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        embedd_common::lock::lock(&file, || {})?;
        let held = file.metadata()?;
        match fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) => return Ok(file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}
