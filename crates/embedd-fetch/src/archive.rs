//! Files out of wheels, zip files and source archives.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use flate2::read::GzDecoder;
use zip::ZipArchive;
use zip::result::ZipError;

use super::copy::to_new_file;
use super::error::FetchError;
use super::layout;
use super::record::FileRecord;
use super::work::Staging;
use embedd_common::progress::{Progress, Unit};

/// A zip file whose members are asked for by name. Names are ours, never the archive's, so no member can be written
/// outside the folder that it is meant for.
pub(super) struct Zip<R> {
    archive: ZipArchive<R>,
    name: String,
}

impl Zip<BufReader<File>> {
    /// Opens the file at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, FetchError> {
        let file = File::open(path).map_err(|error| FetchError::io("open", path, error))?;
        Self::new(BufReader::new(file), &file_name(path))
    }
}

impl<R: Read + Seek> Zip<R> {
    /// `name` is what the archive is called in errors.
    pub(super) fn new(reader: R, name: &str) -> Result<Self, FetchError> {
        let archive = ZipArchive::new(reader).map_err(|error| broken(name, &error))?;
        Ok(Self { archive, name: name.to_owned() })
    }

    /// Writes the member to a new file at `path`.
    pub(super) fn extract(&mut self, member: &str, path: &Path) -> Result<FileRecord, FetchError> {
        let name = &self.name;
        let mut from = self.archive.by_name(member).map_err(|error| lacks(name, member, &error))?;
        let bytes = from.size();
        to_new_file(&mut from, name, path, bytes, None)
    }

    /// Adds the member to the staging folder as `file`; says whether there is such a member.
    fn add(
        &mut self,
        member: &str,
        file: &str,
        staging: &mut Staging,
        progress: &Progress,
    ) -> Result<bool, FetchError> {
        let mut from = match self.archive.by_name(member) {
            Ok(from) => from,
            Err(ZipError::FileNotFound) => return Ok(false),
            Err(error) => return Err(broken(&self.name, &error)),
        };
        let bytes = from.size();
        let task = progress.task(&format!("extracting {file}"), Some(bytes), Unit::Bytes);
        staging.add(file, &mut from, &self.name, bytes, Some(&task))?;
        task.finish();
        Ok(true)
    }

    /// Adds the sentence-transformers model that lies below `folder`, without the junk that lies beside it.
    pub(super) fn add_model(
        &mut self,
        folder: &str,
        staging: &mut Staging,
        progress: &Progress,
    ) -> Result<(), FetchError> {
        // Small files are not worth a line each.
        let silent = Progress::silent();
        let mut add = |file: &str, required: bool, staging: &mut Staging| {
            let member = format!("{folder}/{file}");
            let progress = if file == layout::WEIGHTS { progress } else { &silent };
            let found = self.add(&member, file, staging, progress)?;
            if required && !found { Err(lacks(&self.name, &member, &ZipError::FileNotFound)) } else { Ok(()) }
        };
        add(layout::MODULES, true, staging)?;
        let modules = staging.read(layout::MODULES)?;
        let wanted =
            layout::wanted(&modules).map_err(|reason| FetchError::Modules { what: folder.to_owned(), reason })?;
        wanted.iter().try_for_each(|wanted| add(&wanted.file, wanted.required, staging))
    }
}

/// Writes a member of a `.tar.gz` file to a new file at `path`.
pub(super) fn extract_from_tar(archive: &Path, member: &str, path: &Path) -> Result<FileRecord, FetchError> {
    let name = file_name(archive);
    let file = File::open(archive).map_err(|error| FetchError::io("open", archive, error))?;
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    for entry in tar.entries().map_err(|error| broken(&name, &error))? {
        let mut entry = entry.map_err(|error| broken(&name, &error))?;
        if &*entry.path_bytes() == member.as_bytes() {
            let bytes = entry.size();
            return to_new_file(&mut entry, &name, path, bytes, None);
        }
    }
    Err(lacks(&name, member, &ZipError::FileNotFound))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn broken(archive: &str, error: &dyn std::error::Error) -> FetchError {
    FetchError::Archive { archive: archive.to_owned(), reason: error.to_string() }
}

fn lacks(archive: &str, member: &str, error: &ZipError) -> FetchError {
    match error {
        ZipError::FileNotFound => {
            FetchError::Archive { archive: archive.to_owned(), reason: format!("it does not hold `{member}`") }
        }
        other => broken(archive, other),
    }
}
