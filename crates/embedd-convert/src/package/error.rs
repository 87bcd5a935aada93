//! Why there is no tarball, or none that can be trusted.

use std::io;
use std::path::{Path, PathBuf};

use crate::writer::advice;
use embedd_model::bundle::{AccuracyRecord, BundleError, PORTABLE_FILE, Variant};

/// Why a tarball could not be written or is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The bundle cannot be read, or is not as it was converted.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// There is no model to pack.
    #[error(
        "{folder} has no portable model ({PORTABLE_FILE}), and a tarball must hold one; convert the model again with \
         `embedd convert --force`"
    )]
    NoPortable {
        /// The bundle.
        folder: PathBuf,
    },
    /// The gate: the accuracy is not known.
    #[error(
        "the {variant} model in {folder} has not been compared with PyTorch: its manifest has no accuracy; compare it \
         with `embedd validate`, or convert the model again with a reference set"
    )]
    Unproven {
        /// The bundle.
        folder: PathBuf,
        /// Which of its models.
        variant: Variant,
    },
    /// The gate: the accuracy is too low.
    #[error(
        "the {variant} model in {folder} is not accurate enough: over {} texts, cosine to PyTorch at least {:.6}, \
         1st percentile {:.6}, mean {:.6}; every text must reach {:.6}. Convert the model again with another \
         quantisation",
        accuracy.texts, accuracy.min_cosine, accuracy.p1_cosine, accuracy.mean_cosine, accuracy.threshold
    )]
    Inaccurate {
        /// The bundle.
        folder: PathBuf,
        /// Which of its models.
        variant: Variant,
        /// What was measured.
        accuracy: AccuracyRecord,
    },
    /// The bundle lacks a file that a detector needs.
    #[error(
        "{manifest} does not list {file}, which a tarball must have; convert the model again with \
         `embedd convert --force`"
    )]
    MissingFile {
        /// The manifest.
        manifest: PathBuf,
        /// The file.
        file: &'static str,
    },
    /// The model's name cannot be that of a folder.
    #[error("the model is called `{name}`, whose last part cannot be a folder's name; convert it under another name")]
    Name {
        /// The model's name.
        name: String,
    },
    /// The output is there already.
    #[error("{0} exists already; `--force` replaces it, `--output` writes elsewhere")]
    OutputExists(PathBuf),
    /// The output is a folder.
    #[error("{0} is a folder; `--output` takes the path of the tarball")]
    OutputIsFolder(PathBuf),
    /// A file could not be read or written.
    #[error("{path}: {source}{advice}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What the reader may do.
        advice: &'static str,
    },
    /// The archive is damaged, or not one that `embedd package` wrote.
    #[error("{path} is not to be used: {reason}; fetch it again, or write a new one with `embedd package`")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl PackageError {
    /// Whether the model was refused for its accuracy, which has an exit code of its own.
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
