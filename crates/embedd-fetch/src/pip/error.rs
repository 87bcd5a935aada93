use std::io;
use std::process::ExitStatus;

/// pip failed to download a package.
#[derive(Debug, thiserror::Error)]
pub enum PipError {
    /// No Python was found.
    #[error("Python not found (tried {}); install Python 3 with pip, or set EMBEDD_PYTHON to its path", tried.join(", "))]
    NoPython {
        /// The commands that were tried.
        tried: Vec<String>,
    },
    /// This Python has no pip.
    #[error(
        "`{python}` has no pip (a pip installed with --user is ignored); install it with `{python} -m ensurepip`, or set \
         EMBEDD_PYTHON to a Python that has pip, such as one in a virtual environment"
    )]
    NoPip {
        /// The command or path of the Python.
        python: String,
    },
    /// Python cannot be started.
    #[error("cannot run `{python}`: {reason}; set EMBEDD_PYTHON to a Python 3 with pip")]
    Start {
        /// The command or path of the Python.
        python: String,
        /// The operating system's error.
        reason: io::Error,
    },
    /// pip exited with an error.
    #[error(
        "pip could not download {package} ({status}). Its output ended with:\n  {}\nIf it cannot reach its index, configure \
         pip's index, proxy and certificates (`pip config list` shows the current settings)",
        lines.join("\n  ")
    )]
    Failed {
        /// `name==version`.
        package: String,
        /// The exit status.
        status: ExitStatus,
        /// The last lines of output.
        lines: Vec<String>,
    },
    /// The archive is far larger than expected.
    #[error("pip was stopped: {package} has more than {max} bytes; check which index pip uses (`pip config list`)")]
    TooLarge {
        /// `name==version`.
        package: String,
        /// The maximum.
        max: u64,
    },
    /// pip succeeded without leaving an archive.
    #[error("pip reported success for {package} but left no file; check whether its configuration sets `dest`")]
    NoArchive {
        /// `name==version`.
        package: String,
    },
}
