//! The bundle: a folder that conversion writes and the server reads.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use embedd_common::checksum::{ChangedFile, Sha256Hex};
use embedd_common::files::{open_regular, read_bounded};

mod manifest;
mod pooling;

pub use embedd_common::checksum::FileRecord;
pub use manifest::{
    AccuracyRecord, FORMAT, MAX_PROMPT_BYTES, MAX_PROMPT_NAME_BYTES, MAX_PROMPTS, Manifest, ModelRecord, ReferenceKind,
    SourceRecord, Variant, is_prompt_name,
};
pub use pooling::{Pooling, PoolingMode};

/// The file name of a bundle's manifest.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The file name of a bundle's tokenizer.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The file name of a bundle's float32 model.
pub const FP32_FILE: &str = "model.onnx";
/// The file name of a bundle's float16 model.
pub const FP16_FILE: &str = "model_fp16.onnx";
/// The file name of a bundle's portable INT8 model.
pub const PORTABLE_FILE: &str = "model_quantized.onnx";
/// The file name of the graph of a bundle's native INT8 model.
pub const NATIVE_FILE: &str = "model_native.onnx";
/// The file name of the weights of a bundle's native INT8 model.
pub const NATIVE_WEIGHTS_FILE: &str = "model_native.safetensors";
/// The file name of a bundle's reference set.
pub const REFERENCE_FILE: &str = "reference.safetensors";

/// The manifests of all known models have less than 8 KiB.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// The maximum size of a file other than weights. The largest known tokenizers have 35 MB.
const MAX_SMALL_BYTES: u64 = 256 << 20;

/// The names of the inputs and outputs of a graph.
pub mod graph_io {
    /// Token ids, int64 `[batch, sequence]`; `[tokens]` in a native graph.
    pub const INPUT_IDS: &str = "input_ids";
    /// 1 for a token, 0 for padding, int64 `[batch, sequence]`.
    pub const ATTENTION_MASK: &str = "attention_mask";
    /// The hidden states of the last layer, float32 `[batch, sequence, hidden]`.
    pub const TOKEN_STATES: &str = "last_hidden_state";
    /// The pooled hidden states, scaled to L2 norm 1, float32 `[batch, hidden]`.
    pub const SENTENCE_EMBEDDING: &str = "sentence_embedding";
    /// The pooled hidden states without scaling, float32 `[batch, hidden]`.
    pub const POOLED_EMBEDDING: &str = "pooled_embedding";
    /// 1 for a token that is pooled, int64 `[batch, sequence]`. Only graphs of models that exclude prompts have this input.
    pub const POOLING_MASK: &str = "pooling_mask";
    /// The number of tokens at the start of each text that are not pooled, int64 `[batch]`, in a native graph.
    pub const EXCLUDED_TOKENS: &str = "excluded_tokens";
    /// The start of each text among the concatenated tokens, and the end of the last text, int64 `[batch + 1]`. A
    /// native graph has this input instead of padding and a mask.
    pub const TEXT_OFFSETS: &str = "text_offsets";
}

/// A bundle on disk with a validated manifest.
#[derive(Debug, Clone)]
pub struct Bundle {
    folder: PathBuf,
    manifest: Manifest,
    fingerprint: Sha256Hex,
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages explain the fields")]
pub enum BundleError {
    /// The folder has no manifest.
    #[error("{folder} is not a bundle: {MANIFEST_FILE} not found; create a bundle with `embedd convert`")]
    NotABundle { folder: PathBuf },
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    /// The manifest has a different format, because a different version wrote it.
    #[error(
        "{path} has format {found}, but this version of embedd reads format {FORMAT}; convert the model again with \
         `embedd convert --force`"
    )]
    Format { path: PathBuf, found: u32 },
    /// The manifest cannot be parsed or contradicts itself.
    #[error("{path} is damaged: {reason}; convert the model again with `embedd convert --force`")]
    Manifest { path: PathBuf, reason: String },
    /// A file was changed after conversion.
    #[error(
        "{path} has changed since the conversion: expected {expected}, found {found}; convert the model again with \
         `embedd convert --force`"
    )]
    Changed {
        path: PathBuf,
        /// The recorded length or checksum.
        expected: String,
        found: String,
    },
    /// The bundle does not contain a model for the requested engine.
    #[error("{folder} has no {variant} model; it has: {present}")]
    NoSuchModel { folder: PathBuf, variant: String, present: String },
}

impl Bundle {
    /// Reads the manifest of the bundle in `folder`. Other files are verified when they are used.
    ///
    /// # Errors
    /// Any [`BundleError`] except `Changed` and `NoSuchModel`.
    pub fn open(folder: &Path) -> Result<Self, BundleError> {
        let path = folder.join(MANIFEST_FILE);
        let bytes = read_bounded(&path, MAX_MANIFEST_BYTES).map_err(|source| match source.kind() {
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

    /// The bundle's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The folder that contains the bundle's files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The checksum of the manifest, which lists the checksums of all files: it identifies the bundle's contents.
    pub fn fingerprint(&self) -> &Sha256Hex {
        &self.fingerprint
    }

    /// The record of the model that `variant` runs.
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

    /// Verifies a file's length and checksum and returns its path. Whoever opens the path again may find another file; to
    /// use the verified contents, [`read`](Self::read) the file.
    ///
    /// # Errors
    /// [`BundleError::Changed`] or [`BundleError::Io`].
    pub fn verify(&self, file: &str) -> Result<PathBuf, BundleError> {
        let Located { path, record, file } = self.locate(file)?;
        let digest = Sha256Hex::of_reader(file.take(record.bytes));
        let sha256 = digest.map_err(|source| BundleError::Io { path: path.clone(), source })?;
        record.check_digest(&path, &sha256)?;
        Ok(path)
    }

    /// Reads a file once, into memory from `allocate`, and verifies its length and checksum. Later changes to the file
    /// do not affect the returned contents.
    ///
    /// # Errors
    /// [`BundleError::Changed`] or [`BundleError::Io`].
    pub fn read<B: AsMut<[u8]>>(
        &self,
        file: &str,
        allocate: impl FnOnce(usize) -> io::Result<B>,
    ) -> Result<B, BundleError> {
        let Located { path, record, file } = self.locate(file)?;
        let io = |source| BundleError::Io { path: path.clone(), source };
        let length = usize::try_from(record.bytes).map_err(|error| io(io::Error::other(error)))?;
        let mut contents = allocate(length).map_err(io)?;
        let sha256 = Sha256Hex::of_filling(contents.as_mut(), file).map_err(io)?;
        record.check_digest(&path, &sha256)?;
        Ok(contents)
    }

    /// Like [`read`](Self::read), for files other than weights: files of more than 256 MiB are rejected.
    ///
    /// # Errors
    /// [`BundleError::Changed`] or [`BundleError::Io`].
    pub fn read_small(&self, file: &str) -> Result<Vec<u8>, BundleError> {
        self.read(file, |length| {
            if length as u64 <= MAX_SMALL_BYTES {
                return Ok(vec![0; length]);
            }
            Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_SMALL_BYTES} bytes")))
        })
    }

    /// Checks the type and length of all files, also of those that are not needed to serve the bundle, which may be
    /// missing. Reads nothing.
    ///
    /// # Errors
    /// [`BundleError::Changed`] or [`BundleError::Io`].
    pub fn check_lengths(&self) -> Result<(), BundleError> {
        for file in self.manifest.files.keys() {
            match self.locate(file) {
                Err(BundleError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                located => drop(located?),
            }
        }
        Ok(())
    }

    /// Opens a file and checks its length.
    fn locate(&self, file: &str) -> Result<Located<'_>, BundleError> {
        let path = self.folder.join(file);
        let record = self.manifest.files.get(file).ok_or_else(|| BundleError::Manifest {
            path: self.folder.join(MANIFEST_FILE),
            reason: format!("it does not list {file}"),
        })?;
        let io = |source| BundleError::Io { path: path.clone(), source };
        let file = open_regular(&path).map_err(io)?;
        record.check_length(&path, file.metadata().map_err(io)?.len())?;
        Ok(Located { path, record, file })
    }
}

/// An open file of a bundle, of the recorded length.
struct Located<'b> {
    path: PathBuf,
    record: &'b FileRecord,
    file: File,
}

impl From<ChangedFile> for BundleError {
    fn from(ChangedFile { path, expected, found }: ChangedFile) -> Self {
        Self::Changed { path, expected, found }
    }
}

#[cfg(test)]
mod tests;
