//! Copying that knows which side failed, tells its progress and hashes what passes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use super::error::FetchError;
use super::record::FileRecord;
use embedd_common::checksum::HashingWriter;
use embedd_common::progress::Task;

/// Large enough that a call costs nothing beside the disk.
const BUFFER: usize = 256 * 1024;

/// Which side failed.
#[derive(Debug)]
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies `from` to its end. Returns how many bytes that were.
pub(super) fn copy(from: &mut dyn Read, to: &mut dyn Write, task: Option<&Task>) -> Result<u64, CopyError> {
    let mut buffer = vec![0; BUFFER];
    let mut copied = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        to.write_all(&buffer[..read]).map_err(CopyError::Write)?;
        copied += read as u64;
        if let Some(task) = task {
            task.advance(read as u64);
        }
    }
}

/// Writes `from` to a new file at `path`, down to the disk. `archive` is what `from` is read out of; `needed` is how
/// many bytes the file will have.
pub(super) fn to_new_file(
    from: &mut dyn Read,
    archive: &str,
    path: &Path,
    needed: u64,
    task: Option<&Task>,
) -> Result<FileRecord, FetchError> {
    let failed = |action| move |error| FetchError::io(action, path, error).needing(needed);
    let file = File::create(path).map_err(failed("create"))?;
    let mut writer = HashingWriter::new(file);
    copy(from, &mut writer, task).map_err(|error| match error {
        CopyError::Read(error) => FetchError::Archive { archive: archive.to_owned(), reason: error.to_string() },
        CopyError::Write(error) => failed("write")(error),
    })?;
    let (file, sha256, bytes) = writer.finish();
    file.sync_all().map_err(failed("write"))?;
    Ok(FileRecord { bytes, sha256 })
}

/// Makes a folder and those above it.
pub(super) fn make_folder(path: &Path) -> Result<(), FetchError> {
    fs::create_dir_all(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => FetchError::NotAFolder { path: path.to_owned() },
        _ => FetchError::io("create", path, error),
    })
}

/// Writes a folder's list of names down to the disk, so that a rename outlives a power cut.
pub(super) fn sync_folder(path: &Path) -> Result<(), FetchError> {
    // Elsewhere a folder cannot be opened as a file.
    if cfg!(unix) {
        let synced = File::open(path).and_then(|folder| folder.sync_all());
        synced.map_err(|error| FetchError::io("write", path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that is always full.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_with_what_is_needed_and_where() {
        let error = to_new_file(&mut &[7; 100][..], "a.whl", Path::new("/dev/full"), 404_421_332, None)
            .expect_err("nothing fits on it");
        let text = error.to_string();
        assert!(matches!(error, FetchError::DiskFull { needed: Some(404_421_332), .. }), "{error:?}");
        for part in ["/dev/full", "404421332 bytes (404.4 MB)", "EMBEDD_HOME"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_source_that_fails_is_the_archives_fault() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("Invalid checksum"))
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let error = to_new_file(&mut Broken, "a.whl", &folder.path().join("x"), 1, None).expect_err("broken");
        assert!(matches!(error, FetchError::Archive { .. }), "{error:?}");
        assert!(error.to_string().contains("a.whl") && error.to_string().contains("Invalid checksum"));
    }
}
