//! `pip download`, with the user's own configuration of it: which index, proxy and certificates is theirs to say.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use super::catalog::{Form, Package};
use super::copy::make_folder;
use super::error::FetchError;
use embedd_common::progress::{Progress, Task, Unit};

/// Tried in this order where no Python is named.
const PYTHONS: [&str; 2] = ["python3", "python"];
/// The Python version in whose name platform wheels are asked for, so that every Python gets the same file.
const WHEEL_PYTHON: (&str, &str) = ("3.11", "cp311");
/// How many of pip's last lines an error shows.
const LAST_LINES: usize = 6;
/// Often enough for a bar, seldom enough to cost nothing.
const POLL: Duration = Duration::from_millis(100);

/// pip could not do it.
#[derive(Debug, thiserror::Error)]
pub enum PipError {
    /// There is no Python.
    #[error("there is no Python here (tried {}); install Python 3 with pip, or set EMBEDD_PYTHON to one", tried.join(", "))]
    NoPython {
        /// What was tried.
        tried: Vec<String>,
    },
    /// This Python has no pip.
    #[error(
        "`{python}` has no pip (one installed with --user is not used); install it (`{python} -m ensurepip`), or set \
         EMBEDD_PYTHON to a Python that has it, such as that of a virtual environment"
    )]
    NoPip {
        /// The Python.
        python: String,
    },
    /// Python cannot be run.
    #[error("`{python}` cannot be run: {reason}; set EMBEDD_PYTHON to a Python 3 with pip")]
    Start {
        /// The Python.
        python: String,
        /// What the system said.
        reason: io::Error,
    },
    /// pip failed.
    #[error(
        "pip could not download {package} ({status}). It said:\n  {}\nIf it could not reach its index, configure pip \
         (index, proxy, certificates; `pip config list` shows what is set)",
        lines.join("\n  ")
    )]
    Failed {
        /// `name==version`.
        package: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last lines.
        lines: Vec<String>,
    },
    /// pip was content but left no archive.
    #[error("pip said that it downloaded {package}, but left no file; is `dest` set in its configuration?")]
    NoArchive {
        /// `name==version`.
        package: String,
    },
}

/// How to run pip.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pip<'a> {
    /// The Python to use; else the first of `python3` and `python` that there is.
    pub(super) python: Option<&'a Path>,
    /// Added to pip's environment.
    pub(super) environment: &'a [(OsString, OsString)],
    pub(super) progress: &'a Progress,
}

impl Pip<'_> {
    /// Downloads the archive of `package` into the folder `scratch`. Returns its path.
    pub(super) fn download(&self, package: &Package, scratch: &Path) -> Result<PathBuf, FetchError> {
        let spec = package.to_string();
        // pip may work elsewhere than here.
        let scratch = &std::path::absolute(scratch).map_err(|error| FetchError::io("find", scratch, error))?;
        let archives = scratch.join("archives");
        let temporary = scratch.join("tmp");
        make_folder(&archives)?;
        make_folder(&temporary)?;
        let arguments = arguments(package, &archives, &scratch.join("requirements.txt"))?;
        let log = scratch.join("pip.log");
        let (python, child) = self.start(&arguments, &temporary, &log)?;
        let task = self.progress.task(&format!("downloading {spec} with pip"), Some(package.bytes), Unit::Bytes);
        let status = wait(child, &[&temporary, &archives], package.bytes, &task);
        let status = status.map_err(|reason| PipError::Start { python: python.clone(), reason })?;
        if !status.success() {
            return Err(failure(python, spec, status, &log, scratch, package));
        }
        let archive = only_file(&archives).ok_or(PipError::NoArchive { package: spec })?;
        task.set(archive.metadata().map_or(package.bytes, |archive| archive.len()));
        task.finish();
        Ok(archive)
    }

    /// Starts the first Python that there is.
    fn start(&self, arguments: &[OsString], temporary: &Path, log: &Path) -> Result<(String, Running), FetchError> {
        let named = self.python.map(Path::as_os_str);
        let pythons = named.map_or_else(|| PYTHONS.map(OsStr::new).to_vec(), |python| vec![python]);
        for python in &pythons {
            let output = File::create(log).map_err(|error| FetchError::io("create", log, error))?;
            let errors = output.try_clone().map_err(|error| FetchError::io("create", log, error))?;
            let started = Command::new(python)
                // Isolated: no modules from the working directory, where anybody may have put a `pip.py`, and none that
                // PYTHON* variables name. pip's own configuration (PIP_* variables, pip.conf) stays in effect.
                .args(["-I", "-m", "pip"])
                .args(arguments)
                // The same for the processes that pip starts: an empty or relative entry is the working directory.
                .env_remove("PYTHONPATH")
                // It protects environments from `pip install`; nothing is installed here.
                .env("PIP_REQUIRE_VIRTUALENV", "0")
                // pip downloads to here; so its progress can be seen, and the bytes are on the right disk.
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

/// The arguments of pip. A package whose archive is pinned is asked for in a file: pip takes checksums in no other way.
fn arguments(package: &Package, archives: &Path, requirements: &Path) -> Result<Vec<OsString>, FetchError> {
    // What is fetched is kept by us; pip's cache would keep it a second time.
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

/// Which of a package's archives is meant.
fn form_arguments(package: &Package) -> Vec<OsString> {
    let (version, abi) = WHEEL_PYTHON;
    match package.form {
        Form::Wheel => vec!["--only-binary=:all:".into()],
        Form::PlatformWheel(tag) => {
            ["--only-binary=:all:", "--implementation=cp", "--python-version", version, "--abi", abi, "--platform", tag]
                .map(OsString::from)
                .to_vec()
        }
        Form::Source => vec![format!("--no-binary={}", package.name).into()],
    }
}

/// A child that does not outlive us where we give up.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Of no effect on a child that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for pip and tells the growth of the largest file in `folders`: pip downloads one file and then copies it.
fn wait(mut child: Running, folders: &[&Path], expected: u64, task: &Task) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.0.try_wait()? {
            return Ok(status);
        }
        let largest = folders.iter().map(|folder| largest_file(folder)).max().unwrap_or(0);
        // What is unpacked from the archive is larger than the archive.
        task.set(largest.min(expected));
        thread::sleep(POLL);
    }
}

/// The length of the largest file below `folder`. Files come and go meanwhile: what cannot be seen counts nothing.
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

fn failure(
    python: String,
    spec: String,
    status: ExitStatus,
    log: &Path,
    scratch: &Path,
    package: &Package,
) -> FetchError {
    let said = fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    if said.contains("No module named pip") {
        return PipError::NoPip { python }.into();
    }
    if said.contains("No space left on device") {
        // pip downloads to one place and copies to another.
        return FetchError::DiskFull { path: scratch.to_owned(), needed: Some(2 * package.bytes) };
    }
    let lines: Vec<String> =
        said.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let lines = lines[lines.len().saturating_sub(LAST_LINES)..].to_vec();
    PipError::Failed { package: spec, status, lines }.into()
}
