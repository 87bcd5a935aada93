//! Files and folders that appear at their destination complete or not at all.
//!
//! Everything is written under a staging name on the destination's file system, synced, and renamed. Writers take a
//! lock first. A killed process leaves its staging name behind, which the next writer under the same lock reuses or
//! removes. Staging names and lock files are predictable, so links at these names are never followed.

mod file;
mod folder;

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

pub use file::StagedFile;
pub use folder::StagedFolder;

use crate::checksum::{FileRecord, HashingWriter};
use crate::files::{create_own, open_own};
use crate::lock::lock;

/// One system call for many small writes, and few for large ones.
const BUFFER: usize = 1 << 20;

/// A buffered file that is hashed while it is written.
pub type FileWriter = HashingWriter<BufWriter<File>>;

/// A failed file system operation.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`: {source}", path.display())]
pub struct PathError {
    /// Completes "cannot ...": "create", "write", "move a file to".
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The operating system's error.
    pub source: io::Error,
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> PathError + 'a {
    move |source| PathError { action, path: path.to_owned(), source }
}

/// Writes a new file and syncs it to disk, and returns its length and digest. The file is not atomic by itself: write
/// it in a staging folder.
///
/// # Errors
/// The error of `write`, or a [`PathError`] if the file cannot be created or written.
pub fn write_file<E: From<PathError>>(
    path: &Path,
    write: impl FnOnce(&mut FileWriter) -> Result<(), E>,
) -> Result<FileRecord, E> {
    let file = create_own(path).map_err(failed("create", path))?;
    let mut out = HashingWriter::new(BufWriter::with_capacity(BUFFER, file));
    write(&mut out)?;
    let (buffered, sha256, bytes) = out.finish();
    let file = buffered.into_inner().map_err(|error| failed("write", path)(error.into_error()))?;
    file.sync_all().map_err(failed("write", path))?;
    Ok(FileRecord { sha256, bytes })
}

/// Creates and locks a lock file. The lock is released when the file is closed. The file itself must not
/// be removed: otherwise, two processes could lock two files with the same name.
///
/// `waiting` is called once if another process holds the lock.
///
/// # Errors
/// The file cannot be created or locked.
pub fn lock_file(path: &Path, waiting: impl FnOnce()) -> Result<File, PathError> {
    let mut options = File::options();
    let file = open_own(path, options.create(true).write(true)).map_err(failed("lock", path))?;
    lock(&file, waiting).map_err(failed("lock", path))?;
    Ok(file)
}

/// Creates a folder and its parents, if they do not exist.
///
/// # Errors
/// A folder cannot be created. The kind is [`io::ErrorKind::AlreadyExists`] or [`io::ErrorKind::NotADirectory`] if a
/// file is in its place.
pub fn create_folder(path: &Path) -> Result<(), PathError> {
    fs::create_dir_all(path).map_err(failed("create", path))
}

/// Syncs a folder's list of names, so that a rename survives a power failure.
///
/// # Errors
/// The folder cannot be opened or synced.
pub fn sync_folder(path: &Path) -> Result<(), PathError> {
    // Other systems cannot open a folder as a file.
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("write", path))?;
    }
    Ok(())
}

/// Removes the entries of a folder whose names start with `prefix`, which killed processes left behind. Entries that
/// cannot be removed (because a child of the killed process still writes to them) are left for the next call.
pub fn remove_leftovers(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let _ = remove(&entry.path());
        }
    }
}

/// The hidden sibling `.NAME.SUFFIX` of a path.
///
/// ```
/// # use std::path::Path;
/// let staging = embedd_common::atomic::sibling(Path::new("/bundles/mpnet"), "converting");
/// assert_eq!(staging, Path::new("/bundles/.mpnet.converting"));
/// ```
pub fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

/// Removes a file or folder, if it exists.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        removed => removed,
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
