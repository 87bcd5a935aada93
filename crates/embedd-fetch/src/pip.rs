//! `pip download` with the user's own configuration of index, proxy and certificates.

mod error;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

pub use error::PipError;

use super::catalog::{Form, Package};
use super::error::FetchError;
use embedd_common::atomic::create_folder;
use embedd_common::progress::{Progress, Task, Unit};

/// Tried in this order if no Python is configured.
const PYTHONS: [&str; 2] = ["python3", "python"];
/// Platform wheels are requested for this Python version, so that every Python downloads the same file.
const WHEEL_PYTHON: (&str, &str) = ("3.11", "cp311");
/// Number of last lines of pip's output that an error shows.
const LAST_LINES: usize = 6;
/// Fast enough for a progress bar, at a negligible cost.
const POLL: Duration = Duration::from_millis(100);

/// How to run pip.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pip<'a> {
    /// The Python to use, instead of the first of `python3` and `python` that exists.
    pub(super) python: Option<&'a Path>,
    /// Variables added to pip's environment.
    pub(super) environment: &'a [(OsString, OsString)],
    pub(super) progress: &'a Progress,
}

impl Pip<'_> {
    /// Downloads the archive of `package` into the folder `scratch`, and returns its path.
    pub(super) fn download(&self, package: &Package, scratch: &Path) -> Result<PathBuf, FetchError> {
        let spec = package.to_string();
        // pip may run in another working directory.
        let scratch = &std::path::absolute(scratch).map_err(|error| FetchError::io("resolve", scratch, error))?;
        let archives = scratch.join("archives");
        let temporary = scratch.join("tmp");
        create_folder(&archives)?;
        create_folder(&temporary)?;
        let arguments = arguments(package, &archives, &scratch.join("requirements.txt"))?;
        let log = scratch.join("pip.log");
        let (python, child) = self.start(&arguments, &temporary, &log)?;
        let task = self.progress.task(&format!("downloading {spec} with pip"), Some(package.bytes), Unit::Bytes);
        let status = wait(child, &[&temporary, &archives], package.bytes, &task);
        let status = status.map_err(|reason| PipError::Start { python: python.clone(), reason })?;
        let status =
            status.ok_or_else(|| PipError::TooLarge { package: spec.clone(), max: max_bytes(package.bytes) })?;
        if !status.success() {
            return Err(failure(python, status, &log, scratch, package));
        }
        let archive = only_file(&archives).ok_or(PipError::NoArchive { package: spec })?;
        task.set(archive.metadata().map_or(package.bytes, |archive| archive.len()));
        task.finish();
        Ok(archive)
    }

    /// Starts the first Python that exists.
    fn start(&self, arguments: &[OsString], temporary: &Path, log: &Path) -> Result<(String, Running), FetchError> {
        let named = self.python.map(Path::as_os_str);
        let pythons = named.map_or_else(|| PYTHONS.map(OsStr::new).to_vec(), |python| vec![python]);
        for python in &pythons {
            let output = File::create(log).map_err(|error| FetchError::io("create", log, error))?;
            let errors = output.try_clone().map_err(|error| FetchError::io("create", log, error))?;
            let started = Command::new(python)
                // Isolated mode ignores PYTHON* variables and modules in the working directory, where anyone may have
                // put a `pip.py`. pip's own configuration (PIP_* variables, pip.conf) stays in effect.
                .args(["-I", "-m", "pip"])
                .args(arguments)
                // Would still affect processes that pip starts: an empty or relative entry means the working directory.
                .env_remove("PYTHONPATH")
                // These settings guard installations. Nothing is installed here, and what is downloaded has a checksum.
                .env("PIP_REQUIRE_VIRTUALENV", "0")
                .env("PIP_REQUIRE_HASHES", "0")
                // Download to this folder: its growth shows the progress, and it is on the right disk.
                .envs([("TMPDIR", temporary), ("TEMP", temporary), ("TMP", temporary)])
                .envs(self.environment.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::null())
                .stdout(output)
                .stderr(errors)
                .spawn();
            let name = python.to_string_lossy().into_owned();
            match started {
                Ok(child) => return Ok((name, Running(child))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(reason) => return Err(PipError::Start { python: name, reason }.into()),
            }
        }
        let tried = pythons.iter().map(|python| format!("`{}`", python.to_string_lossy())).collect();
        Err(PipError::NoPython { tried }.into())
    }
}

/// The arguments of pip. A package with a pinned archive goes into a requirements file, since pip accepts checksums
/// only there.
fn arguments(package: &Package, archives: &Path, requirements: &Path) -> Result<Vec<OsString>, FetchError> {
    // pip's cache would only store the download a second time.
    let fixed = "download --no-deps --disable-pip-version-check --no-input --progress-bar=off --no-cache-dir";
    let mut arguments: Vec<OsString> = fixed.split(' ').map(OsString::from).collect();
    arguments.extend(form_arguments(package));
    arguments.extend(["-d".into(), archives.into()]);
    if let Some(sha256) = package.sha256 {
        let line = format!("{package} --hash=sha256:{sha256}\n");
        fs::write(requirements, line).map_err(|error| FetchError::io("write", requirements, error))?;
        arguments.extend(["-r".into(), requirements.into()]);
    } else {
        arguments.push(package.to_string().into());
    }
    Ok(arguments)
}

/// The arguments that select one of a package's archives.
fn form_arguments(package: &Package) -> Vec<OsString> {
    let (version, abi) = WHEEL_PYTHON;
    match package.form {
        Form::Wheel => vec!["--only-binary=:all:".into()],
        Form::PlatformWheel(tag) => {
            ["--only-binary=:all:", "--implementation=cp", "--python-version", version, "--abi", abi, "--platform", tag]
                .map(OsString::from)
                .to_vec()
        }
    }
}

/// A child process that is killed on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // No effect on a child that has exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The maximum size of a package, given its approximate size. A package index that sends more must not fill the disk.
fn max_bytes(expected: u64) -> u64 {
    2 * expected + (64 << 20)
}

/// Waits for pip, and reports the size of the largest file in `folders`: pip downloads one file and then copies it.
/// `None` if pip was stopped because the file is too large.
fn wait(mut child: Running, folders: &[&Path], expected: u64, task: &Task) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.0.try_wait()? {
            return Ok(Some(status));
        }
        let largest = folders.iter().map(|folder| largest_file(folder)).max().unwrap_or(0);
        if largest > max_bytes(expected) {
            return Ok(None);
        }
        // Files that pip unpacks may be larger than the archive.
        task.set(largest.min(expected));
        thread::sleep(POLL);
    }
}

/// The size of the largest file below `folder`. Files that disappear during the scan count as empty.
fn largest_file(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => largest_file(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.max().unwrap_or(0)
}

fn only_file(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find(|path| path.is_file())
}

/// The cause of a failed run, according to its output.
fn failure(python: String, status: ExitStatus, log: &Path, scratch: &Path, package: &Package) -> FetchError {
    let output = fs::read(log).unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    if output.contains("No module named pip") {
        return PipError::NoPip { python }.into();
    }
    if output.contains("No space left on device") {
        // pip downloads the archive and then copies it.
        return FetchError::DiskFull { path: scratch.to_owned(), needed: Some(2 * package.bytes) };
    }
    let lines: Vec<String> =
        output.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let lines = lines[lines.len().saturating_sub(LAST_LINES)..].to_vec();
    PipError::Failed { package: package.to_string(), status, lines }.into()
}
