//! Errors from writing and verifying tarballs.

use std::io;
use std::path::{Path, PathBuf};

use crate::writer::advice;
use embedd_model::bundle::{AccuracyRecord, BundleError, PORTABLE_FILE, Variant};

/// Why a tarball could not be written or verified.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The bundle cannot be read or is damaged.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle has no portable model.
    #[error(
        "{folder} has no portable model ({PORTABLE_FILE}), which a tarball requires; convert the model again with \
         `embedd convert --force --precision int8`"
    )]
    NoPortable {
        /// The bundle.
        folder: PathBuf,
    },
    /// The accuracy gate: the accuracy was not measured.
    #[error(
        "the accuracy of the {variant} model in {folder} was not measured; measure it with `embedd validate`, or convert \
         the model again with a reference set"
    )]
    Unproven {
        /// The bundle.
        folder: PathBuf,
        /// The model.
        variant: Variant,
    },
    /// The accuracy gate: the accuracy is too low.
    #[error(
        "the {variant} model in {folder} failed the accuracy gate: minimum cosine to PyTorch {:.6}, 1st percentile {:.6}, \
         mean {:.6} over {} texts, threshold {:.6}; convert the model again with another recipe",
        accuracy.min_cosine, accuracy.p1_cosine, accuracy.mean_cosine, accuracy.texts, accuracy.threshold
    )]
    Inaccurate {
        /// The bundle.
        folder: PathBuf,
        /// The model.
        variant: Variant,
        /// Its accuracy.
        accuracy: AccuracyRecord,
    },
    /// The bundle lacks a file that a tarball requires.
    #[error(
        "{manifest} does not list {file}, which a tarball requires; convert the model again with \
         `embedd convert --force`"
    )]
    MissingFile {
        /// The manifest.
        manifest: PathBuf,
        /// The file.
        file: &'static str,
    },
    /// The model's name is not a valid folder name.
    #[error("the last part of the model's name `{name}` is not a valid folder name; convert it under another name")]
    Name {
        /// The model's name.
        name: String,
    },
    /// The output exists.
    #[error("{0} already exists; replace it with `--force` or choose another `--output`")]
    OutputExists(PathBuf),
    /// The output is a folder.
    #[error("{0} is a folder; `--output` must be the path of the tarball")]
    OutputIsFolder(PathBuf),
    /// A file could not be read or written.
    #[error("{path}: {source}{advice}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
        /// What to do about it; may be empty.
        advice: &'static str,
    },
    /// The archive is damaged or was not written by `embedd package`.
    #[error("{path} is invalid: {reason}; download it again or create a new one with `embedd package`")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
}

impl PackageError {
    /// Whether a model failed the accuracy gate, which has its own exit code.
    pub fn is_gate(&self) -> bool {
        matches!(self, Self::Unproven { .. } | Self::Inaccurate { .. })
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let advice = advice(
            &source,
            "; free some space, or choose another disk with --output",
            "; choose another folder with --output",
        );
        Self::Io { path: path.to_owned(), source, advice }
    }
}
