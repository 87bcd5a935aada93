//! Writes the tarball to a staging file beside its destination.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::PackageError;
use embedd_common::atomic::{PathError, StagedFile};

/// A staging file that is renamed when it is complete. Its errors are those of `embedd package`.
#[derive(Debug)]
pub(super) struct StagedTarball(StagedFile);

impl StagedTarball {
    /// Waits while another process writes to the same output. Replaces an existing file only if `replace` is set.
    pub(super) fn create(output: &Path, replace: bool) -> Result<Self, PackageError> {
        if output.is_dir() || output.file_name().is_none() {
            return Err(PackageError::OutputIsFolder(output.to_owned()));
        }
        let staged = StagedFile::create(output)?;
        // Checked only now, because another process may have written it while this one waited for the lock.
        if staged.destination().exists() && !replace {
            return Err(PackageError::OutputExists(staged.destination().to_owned()));
        }
        Ok(Self(staged))
    }

    /// The absolute path of the output.
    pub(super) fn output(&self) -> &Path {
        self.0.destination()
    }

    /// The staging file, which is empty at first.
    pub(super) fn file(&self) -> &File {
        self.0.file()
    }

    /// Renames the file to the output, and returns the output's path.
    pub(super) fn persist(self) -> Result<PathBuf, PackageError> {
        Ok(self.0.commit()?)
    }
}

impl From<PathError> for PackageError {
    fn from(error: PathError) -> Self {
        Self::io(&error.path, error.source)
    }
}
