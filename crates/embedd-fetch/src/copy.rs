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

/// Copies `from` to its end, and returns the number of bytes.
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

/// A member of an archive that is open for reading.
pub(super) struct MemberReader<'a> {
    pub(super) reader: &'a mut dyn Read,
    /// The archive's name in errors.
    pub(super) archive: &'a str,
    /// The length that the archive announces for the member. Compressed data may expand to any length.
    pub(super) length: u64,
}

impl MemberReader<'_> {
    /// Copies the member to `out`, the file at `path`.
    pub(super) fn copy_to(self, out: &mut FileWriter, path: &Path, task: Option<&Task>) -> Result<(), FetchError> {
        let broken = |reason: String| FetchError::Archive { archive: self.archive.to_owned(), reason };
        let mut reader = self.reader.take(self.length.saturating_add(1));
        let copied = copy(&mut reader, out, task).map_err(|error| match error {
            CopyError::Read(error) => broken(error.to_string()),
            CopyError::Write(error) => FetchError::io("write", path, error),
        })?;
        if copied == self.length {
            return Ok(());
        }
        let found = if copied > self.length { "more" } else { "fewer" };
        Err(broken(format!("a member has {found} bytes than the {} that it announces", self.length)))
    }

    /// Writes the member to a new file at `path`.
    pub(super) fn write_to(self, path: &Path, task: Option<&Task>) -> Result<FileRecord, FetchError> {
        let length = self.length;
        write_file(path, |out| self.copy_to(out, path, task)).map_err(|error: FetchError| error.needing(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// /dev/full is a device that is always full.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_error_on_a_full_disk_names_the_path_and_the_space_needed() {
        let length = 404_421_332;
        let source = MemberReader { reader: &mut io::repeat(7).take(length), archive: "a.whl", length };
        let error = source.write_to(Path::new("/dev/full"), None).expect_err("the device is full");
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
        let source = MemberReader { reader: &mut Broken, archive: "a.whl", length: 1 };
        let error = source.write_to(&folder.path().join("x"), None).expect_err("a broken archive");
        assert!(matches!(error, FetchError::Archive { .. }), "{error:?}");
        assert!(error.to_string().contains("a.whl") && error.to_string().contains("Invalid checksum"));
    }

    #[test]
    fn a_member_must_have_the_length_that_it_announces() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x");
        for (length, part) in [(99, "more bytes than the 99"), (101, "fewer bytes than the 101")] {
            let source = MemberReader { reader: &mut &[7; 100][..], archive: "a.whl", length };
            let error = source.write_to(&path, None).expect_err("another length").to_string();
            assert!(error.contains("a.whl") && error.contains(part), "{error}");
        }
        let endless = MemberReader { reader: &mut io::repeat(7), archive: "a.whl", length: 5 };
        endless.write_to(&path, None).expect_err("it never ends");
        assert_eq!(path.metadata().expect("a file").len(), 6, "it is read only as far as necessary");
    }
}
