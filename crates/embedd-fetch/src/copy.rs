//! Copies streams with progress, and distinguishes read errors from write errors.

use std::io::{self, Read, Write};
use std::path::Path;

use super::error::FetchError;
use embedd_common::atomic::{FileWriter, write_file};
use embedd_common::checksum::FileRecord;
use embedd_common::progress::Task;

/// Large enough that the cost of a call is negligible.
const BUFFER: usize = 256 * 1024;

/// The side that failed.
#[derive(Debug)]
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies `from` to its end.
pub(super) fn copy(from: &mut dyn Read, to: &mut dyn Write, task: Option<&Task>) -> Result<(), CopyError> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        to.write_all(&buffer[..read]).map_err(CopyError::Write)?;
        if let Some(task) = task {
            task.advance(read as u64);
        }
    }
}

/// A member of an archive that is open for reading.
pub(super) struct MemberReader<'a> {
    pub(super) reader: &'a mut dyn Read,
    /// The archive's name in errors.
    pub(super) archive: &'a str,
    /// The length of the member.
    pub(super) bytes: u64,
}

impl MemberReader<'_> {
    /// Copies the member to `out`, the file at `path`.
    pub(super) fn copy_to(self, out: &mut FileWriter, path: &Path, task: Option<&Task>) -> Result<(), FetchError> {
        copy(self.reader, out, task).map_err(|error| match error {
            CopyError::Read(error) => {
                FetchError::Archive { archive: self.archive.to_owned(), reason: error.to_string() }
            }
            CopyError::Write(error) => FetchError::io("write", path, error),
        })
    }

    /// Writes the member to a new file at `path`.
    pub(super) fn write_to(self, path: &Path) -> Result<FileRecord, FetchError> {
        let bytes = self.bytes;
        write_file(path, |out| self.copy_to(out, path, None)).map_err(|error: FetchError| error.needing(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// /dev/full is a device that is always full.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_error_on_a_full_disk_names_the_path_and_the_space_needed() {
        let source = MemberReader { reader: &mut &[7; 100][..], archive: "a.whl", bytes: 404_421_332 };
        let error = source.write_to(Path::new("/dev/full")).expect_err("the device is full");
        let text = error.to_string();
        assert!(matches!(error, FetchError::DiskFull { needed: Some(404_421_332), .. }), "{error:?}");
        for part in ["/dev/full", "404421332 bytes (404.4 MB)", "EMBEDD_HOME"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_read_error_blames_the_archive() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("Invalid checksum"))
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let source = MemberReader { reader: &mut Broken, archive: "a.whl", bytes: 1 };
        let error = source.write_to(&folder.path().join("x")).expect_err("a broken archive");
        assert!(matches!(error, FetchError::Archive { .. }), "{error:?}");
        assert!(error.to_string().contains("a.whl") && error.to_string().contains("Invalid checksum"));
    }
}
