//! A file that is written beside its place and moved there when it is whole.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::error::PackageError;

/// Dropped before it was moved, it leaves nothing behind; what a killed process left, the next one takes up.
#[derive(Debug)]
pub(super) struct Aside {
    output: PathBuf,
    path: PathBuf,
    /// Locked, so that two never write to one place.
    file: File,
    moved: bool,
}

impl Aside {
    /// Waits for another writer to the same place; what that one wrote is replaced only where `replace` says so.
    pub(super) fn create(output: &Path, replace: bool) -> Result<Self, PackageError> {
        let output = std::path::absolute(output).map_err(|error| PackageError::io(output, error))?;
        let (Some(parent), Some(name)) = (output.parent(), output.file_name()) else {
            return Err(PackageError::OutputIsFolder(output));
        };
        fs::create_dir_all(parent).map_err(|error| PackageError::io(parent, error))?;
        let path = output.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        let file = lock(&path).map_err(|error| PackageError::io(&path, error))?;
        // From here on the file is removed with the value.
        let aside = Self { output, path, file, moved: false };
        if aside.output.is_dir() {
            return Err(PackageError::OutputIsFolder(aside.output.clone()));
        }
        if aside.output.exists() && !replace {
            return Err(PackageError::OutputExists(aside.output.clone()));
        }
        aside.file.set_len(0).map_err(|error| PackageError::io(&aside.path, error))?;
        Ok(aside)
    }

    /// Where the file will be.
    pub(super) fn output(&self) -> &Path {
        &self.output
    }

    /// Empty at first.
    pub(super) fn file(&mut self) -> &File {
        &self.file
    }

    /// Puts the file, which must be synced, in its place. Returns the place.
    pub(super) fn move_in_place(mut self) -> Result<PathBuf, PackageError> {
        fs::rename(&self.path, &self.output).map_err(|error| PackageError::io(&self.output, error))?;
        self.moved = true;
        Ok(self.output.clone())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.moved {
            // What cannot be removed is taken up by the next one.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens and locks the file at `path`. Whoever waited for the lock may hold a file that was moved meanwhile: only the
/// one that is still at `path` will do.
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
