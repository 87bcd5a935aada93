//! The bundle: the folder that conversion writes and serving reads, and the only thing that they share.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use embedd_common::checksum::{ChangedFile, Sha256Hex};

mod manifest;
pub mod native_io;

pub use embedd_common::checksum::FileRecord;
pub use manifest::{AccuracyRecord, FORMAT, Manifest, ModelRecord, Pooling, SourceRecord, Variant};

/// The manifest's file in a bundle.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The tokeniser's file in a bundle.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The float32 model's file in a bundle.
pub const FP32_FILE: &str = "model.onnx";
/// The quantised portable model's file in a bundle.
pub const PORTABLE_FILE: &str = "model_quantized.onnx";
/// The graph of the native INT8 model, in a bundle.
pub const NATIVE_FILE: &str = "model_native.onnx";
/// The weights of the native INT8 model, in a bundle.
pub const NATIVE_WEIGHTS_FILE: &str = "model_native.safetensors";
/// The reference set's file in a bundle.
pub const REFERENCE_FILE: &str = "reference.safetensors";

/// The names of the graph's inputs and outputs.
pub mod graph_io {
    /// Token ids, int64 `[batch, sequence]`.
    pub const INPUT_IDS: &str = "input_ids";
    /// 1 for a token, 0 for padding, int64 `[batch, sequence]`.
    pub const ATTENTION_MASK: &str = "attention_mask";
    /// The states of the last layer, float32 `[batch, sequence, hidden]`.
    pub const TOKEN_STATES: &str = "last_hidden_state";
    /// The pooled states scaled to L2 norm 1, float32 `[batch, hidden]`.
    pub const SENTENCE_EMBEDDING: &str = "sentence_embedding";
    /// The pooled states as they are, float32 `[batch, hidden]`.
    pub const POOLED_EMBEDDING: &str = "pooled_embedding";
    /// Where each text begins among the concatenated tokens, and where the last one ends, int64 `[batch + 1]`; the
    /// native graph has it, and `input_ids` `[tokens]`, in place of a padded batch and its mask.
    pub const TEXT_OFFSETS: &str = "text_offsets";
}

/// A bundle on disk, its manifest read.
#[derive(Debug, Clone)]
pub struct Bundle {
    folder: PathBuf,
    manifest: Manifest,
    fingerprint: Sha256Hex,
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is no manifest: no bundle, or not a whole one.
    #[error("{folder} is no bundle: it has no {MANIFEST_FILE}; `embedd convert` makes one")]
    NotABundle {
        /// The folder.
        folder: PathBuf,
    },
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The manifest was written by another version.
    #[error(
        "{path} has format {found}, and this version of embedd reads format {FORMAT}; convert the model again with \
         `embedd convert --force`"
    )]
    Format {
        /// The manifest.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The manifest is not what a manifest must be.
    #[error("{path} is damaged: {reason}; convert the model again with `embedd convert --force`")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file is not the one that was converted.
    #[error(
        "{path} is not the file that the bundle was made with: expected {expected}, found {found}; convert the model \
         again with `embedd convert --force`"
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its recorded length or checksum.
        expected: String,
        /// Its present one.
        found: String,
    },
    /// The bundle lacks what was asked for.
    #[error("{folder} has no {variant} model; it has: {present}")]
    NoSuchModel {
        /// The bundle.
        folder: PathBuf,
        /// What was asked for.
        variant: String,
        /// What there is.
        present: String,
    },
}

impl Bundle {
    /// Reads the manifest of the bundle in `folder`. Files are checked when they are asked for.
    ///
    /// # Errors
    /// Every [`BundleError`] but `Changed`.
    pub fn open(folder: &Path) -> Result<Self, BundleError> {
        let path = folder.join(MANIFEST_FILE);
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BundleError::NotABundle { folder: folder.to_owned() },
            _ => BundleError::Io { path: path.clone(), source },
        })?;
        let damaged = |reason: String| BundleError::Manifest { path: path.clone(), reason };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0) as u32;
        if format != FORMAT {
            return Err(BundleError::Format { path, found: format });
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        manifest.check().map_err(damaged)?;
        Ok(Self { folder: folder.to_owned(), manifest, fingerprint: Sha256Hex::of(&bytes) })
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bundle's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The manifest's digest, and so that of everything in the bundle.
    pub fn fingerprint(&self) -> &Sha256Hex {
        &self.fingerprint
    }

    /// The record and path of one of its models.
    ///
    /// # Errors
    /// [`BundleError::NoSuchModel`].
    pub fn model(&self, variant: Variant) -> Result<&ModelRecord, BundleError> {
        self.manifest.models.get(&variant).ok_or_else(|| BundleError::NoSuchModel {
            folder: self.folder.clone(),
            variant: variant.to_string(),
            present: self.manifest.models.keys().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        })
    }

    /// The path of a file, once its length and checksum are those recorded.
    ///
    /// # Errors
    /// [`BundleError::Changed`] or [`BundleError::Io`].
    pub fn verify(&self, file: &str) -> Result<PathBuf, BundleError> {
        let (path, record) = self.locate(file)?;
        let sha256 = Sha256Hex::of_file(&path).map_err(|source| BundleError::Io { path: path.clone(), source })?;
        record.check_digest(&path, &sha256)?;
        Ok(path)
    }

    /// A file's contents, read once into memory that `allocate` gives for its length, once its length and checksum are
    /// those recorded. What happens to the file afterwards does not matter.
    ///
    /// # Errors
    /// [`BundleError::Changed`] or [`BundleError::Io`].
    pub fn read<B: AsMut<[u8]>>(
        &self,
        file: &str,
        allocate: impl FnOnce(usize) -> io::Result<B>,
    ) -> Result<B, BundleError> {
        let (path, record) = self.locate(file)?;
        let io = |source| BundleError::Io { path: path.clone(), source };
        let length = usize::try_from(record.bytes).map_err(|error| io(io::Error::other(error)))?;
        let mut contents = allocate(length).map_err(io)?;
        let file = fs::File::open(&path).map_err(io)?;
        let sha256 = Sha256Hex::of_filling(contents.as_mut(), file).map_err(io)?;
        record.check_digest(&path, &sha256)?;
        Ok(contents)
    }

    /// The path and record of a file that has the recorded length.
    fn locate(&self, file: &str) -> Result<(PathBuf, &FileRecord), BundleError> {
        let path = self.folder.join(file);
        let record = self.manifest.files.get(file).ok_or_else(|| BundleError::Manifest {
            path: self.folder.join(MANIFEST_FILE),
            reason: format!("it does not list {file}"),
        })?;
        let bytes = fs::metadata(&path).map_err(|source| BundleError::Io { path: path.clone(), source })?.len();
        record.check_length(&path, bytes)?;
        Ok((path, record))
    }
}

impl From<ChangedFile> for BundleError {
    fn from(ChangedFile { path, expected, found }: ChangedFile) -> Self {
        Self::Changed { path, expected, found }
    }
}

#[cfg(test)]
mod tests;
