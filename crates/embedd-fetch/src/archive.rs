//! Extracts files from wheels and zip files.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::copy::MemberReader;
use super::error::FetchError;
use super::layout::{self, Layout};
use super::work::Staging;
use embedd_common::checksum::FileRecord;
use embedd_common::progress::{Progress, Task, Unit};

/// A zip file whose members are read by name. Names come from this program and never from the archive, so no member
/// can be written outside its folder.
pub(super) struct Zip<R> {
    archive: ZipArchive<R>,
    name: String,
}

impl Zip<BufReader<File>> {
    pub(super) fn open(path: &Path) -> Result<Self, FetchError> {
        let file = File::open(path).map_err(|error| FetchError::io("open", path, error))?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        Self::new(BufReader::new(file), &name)
    }
}

impl<R: Read + Seek> Zip<R> {
    /// `name` is the archive's name in errors.
    pub(super) fn new(reader: R, name: &str) -> Result<Self, FetchError> {
        let archive = ZipArchive::new(reader).map_err(|error| broken(name, &error))?;
        Ok(Self { archive, name: name.to_owned() })
    }

    /// Extracts a member of at most `max` bytes to a new file at `path`.
    pub(super) fn extract(
        &mut self,
        member: &str,
        max: u64,
        path: &Path,
        task: &Task,
    ) -> Result<FileRecord, FetchError> {
        let archive = &self.name;
        let mut reader = self.archive.by_name(member).map_err(|error| unreadable(archive, member, &error))?;
        let length = announced(archive, member, reader.size(), max)?;
        MemberReader { reader: &mut reader, archive, length }.write_to(path, Some(task))
    }

    /// Adds a member to the staging folder as `file`. Returns whether the archive has it.
    fn add(
        &mut self,
        member: &str,
        file: &str,
        staging: &mut Staging,
        progress: &Progress,
    ) -> Result<bool, FetchError> {
        let mut reader = match self.archive.by_name(member) {
            Ok(reader) => reader,
            Err(ZipError::FileNotFound) => return Ok(false),
            Err(error) => return Err(broken(&self.name, &error)),
        };
        let length = announced(&self.name, member, reader.size(), layout::max_bytes(file))?;
        let task = progress.task(&format!("extracting {file}"), Some(length), Unit::Bytes);
        let source = MemberReader { reader: &mut reader, archive: &self.name, length };
        staging.add(file, source, Some(&task))?;
        task.finish();
        Ok(true)
    }

    /// Adds the sentence-transformers model below `folder` to the staging folder. Unrelated files are skipped.
    pub(super) fn add_model(
        &mut self,
        folder: &str,
        staging: &mut Staging,
        progress: &Progress,
    ) -> Result<(), FetchError> {
        // Small files are not worth a line of progress.
        let silent = Progress::silent();
        let mut add = |file: &str, required: bool, staging: &mut Staging| {
            let member = format!("{folder}/{file}");
            let progress = if file == layout::WEIGHTS { progress } else { &silent };
            let found = self.add(&member, file, staging, progress)?;
            if required && !found { Err(unreadable(&self.name, &member, &ZipError::FileNotFound)) } else { Ok(()) }
        };
        add(layout::MODULES, true, staging)?;
        let modules = staging.read(layout::MODULES)?;
        let layout =
            Layout::parse(&modules).map_err(|reason| FetchError::Modules { what: folder.to_owned(), reason })?;
        layout.configuration().iter().try_for_each(|wanted| add(&wanted.file, wanted.required, staging))?;
        // The models of the catalog have no other files.
        add(&layout.of_transformer(layout::TOKENIZER), true, staging)?;
        add(&layout.of_transformer(layout::WEIGHTS), true, staging)
    }
}

/// The length that the archive announces for a member, if it is at most `max`.
fn announced(archive: &str, member: &str, length: u64, max: u64) -> Result<u64, FetchError> {
    if length <= max {
        return Ok(length);
    }
    let reason = format!("`{member}` has {length} bytes; the maximum is {max}");
    Err(FetchError::Archive { archive: archive.to_owned(), reason })
}

fn broken(archive: &str, error: &dyn std::error::Error) -> FetchError {
    FetchError::Archive { archive: archive.to_owned(), reason: error.to_string() }
}

fn unreadable(archive: &str, member: &str, error: &ZipError) -> FetchError {
    match error {
        ZipError::FileNotFound => {
            FetchError::Archive { archive: archive.to_owned(), reason: format!("it does not contain `{member}`") }
        }
        other => broken(archive, other),
    }
}
