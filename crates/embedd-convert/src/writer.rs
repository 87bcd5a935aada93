//! Writes a bundle to a staging folder and moves it to its destination when it is complete.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::onnx::WriteError;
use embedd_common::atomic::{FileWriter, PathError, StagedFolder, create_folder, lock_file, sibling};
use embedd_common::files::open_regular;
use embedd_model::bundle::{
    AccuracyRecord, FORMAT, MANIFEST_FILE, Manifest, ModelRecord, Pooling, SourceRecord, Variant,
};

/// A bundle under construction, in a folder beside its destination. If it is dropped before it is finished, it removes
/// the files that it wrote.
#[derive(Debug)]
pub(super) struct BundleWriter {
    output: PathBuf,
    staging: StagedFolder,
    models: BTreeMap<Variant, ModelRecord>,
    /// Held while the writer exists, so that two processes never write to the same destination.
    _lock: File,
}

/// The contents of the manifest apart from files and models.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) name: String,
    pub(super) architecture: String,
    pub(super) source: SourceRecord,
    pub(super) dimension: u32,
    pub(super) max_tokens: u32,
    pub(super) position_limit: u32,
    pub(super) pooling: Pooling,
    pub(super) lowercase: bool,
    pub(super) prompts: BTreeMap<String, String>,
    pub(super) default_prompt: Option<String>,
    pub(super) exclude_prompt: bool,
}

impl Description {
    /// The text of the default prompt.
    pub(super) fn default_prompt(&self) -> Option<&str> {
        self.prompts.get(self.default_prompt.as_ref()?).map(String::as_str)
    }
}

/// Why a bundle could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// The output exists and must not be replaced.
    #[error("{0} already exists; use `--force` to replace it, or `--output` to write elsewhere")]
    OutputExists(PathBuf),
    /// A file could not be read or written.
    #[error("{path}: {source}{advice}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
        /// What to do about it, as the end of the message.
        advice: &'static str,
    },
    /// A model could not be written.
    #[error("{path}: {source}")]
    Model {
        /// The ONNX file.
        path: PathBuf,
        /// The reason.
        source: WriteError,
    },
}

pub(super) fn io_error(path: &Path) -> impl Fn(io::Error) -> WriterError + '_ {
    |source| {
        let advice = advice(
            &source,
            "; free some space, or choose another disk with --output or EMBEDD_HOME (the float32 model takes as much \
             space as the source weights)",
            "; choose another folder with --output or EMBEDD_HOME",
        );
        WriterError::Io { path: path.to_owned(), source, advice }
    }
}

impl From<PathError> for WriterError {
    fn from(error: PathError) -> Self {
        io_error(&error.path)(error.source)
    }
}

/// The advice for a full disk (`full`) or a folder without write permission (`denied`).
pub(super) fn advice(error: &io::Error, full: &'static str, denied: &'static str) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => full,
        io::ErrorKind::PermissionDenied => denied,
        _ => "",
    }
}

impl BundleWriter {
    /// Creates the staging folder beside `output`, on the same file system.
    ///
    /// Waits while another process writes to the same output. Replaces an existing bundle only if `replace` is set.
    pub(super) fn create(output: &Path, replace: bool) -> Result<Self, WriterError> {
        let output = std::path::absolute(output).map_err(io_error(output))?;
        create_folder(output.parent().unwrap_or(&output))?;
        let lock = lock_file(&sibling(&output, "lock"), || {})?;
        if output.exists() && !replace {
            return Err(WriterError::OutputExists(output));
        }
        let staging = StagedFolder::create(sibling(&output, "converting"), sibling(&output, "replaced"))?;
        Ok(Self { output, staging, models: BTreeMap::new(), _lock: lock })
    }

    /// Copies a file of the source. A file that is not required may be missing.
    pub(super) fn copy(&mut self, from: &Path, name: &str, required: bool) -> Result<(), WriterError> {
        let mut reader = match open_regular(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return Ok(()),
            result => result.map_err(io_error(from))?,
        };
        self.stream(name, |out| Ok(io::copy(&mut reader, out).map(|_| ())?))
    }

    /// Writes a file with `write` and returns its result.
    pub(super) fn stream<T>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut FileWriter) -> Result<T, WriteError>,
    ) -> Result<T, WriterError> {
        let path = self.path(name);
        let mut result = None;
        self.staging.write(name, |out| {
            let written = write(out).map_err(|error| match error {
                WriteError::Io(source) => io_error(&path)(source),
                source => WriterError::Model { path: path.clone(), source },
            })?;
            result = Some(written);
            Ok::<_, WriterError>(())
        })?;
        Ok(result.expect("`write` was called"))
    }

    /// The path of a file until the bundle is finished.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.staging.path(name)
    }

    /// The length of a written file.
    pub(super) fn bytes(&self, name: &str) -> u64 {
        self.staging.files().get(name).map_or(0, |record| record.bytes)
    }

    /// The total length of a model's files.
    pub(super) fn model_bytes(&self, model: &ModelRecord) -> u64 {
        model.files().map(|file| self.bytes(file)).sum()
    }

    /// The models added so far.
    pub(super) fn models(&self) -> &BTreeMap<Variant, ModelRecord> {
        &self.models
    }

    /// Removes an intermediate file from the bundle.
    pub(super) fn discard(&mut self, name: &str) -> Result<(), WriterError> {
        Ok(self.staging.discard(name)?)
    }

    /// Writes a file with these contents.
    pub(super) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriterError> {
        self.stream(name, |out| Ok(out.write_all(bytes)?))
    }

    /// Adds a model whose files were written.
    pub(super) fn add_model(&mut self, variant: Variant, file: &str, weights: Option<&str>, quantization: &str) {
        let record = ModelRecord {
            file: file.to_owned(),
            weights: weights.map(str::to_owned),
            quantization: quantization.to_owned(),
            accuracy: None,
            accuracy_bf16: None,
        };
        self.models.insert(variant, record);
    }

    /// Removes a model and its files.
    pub(super) fn remove_model(&mut self, variant: Variant) -> Result<(), WriterError> {
        let Some(record) = self.models.remove(&variant) else { return Ok(()) };
        record.files().try_for_each(|file| self.discard(file))
    }

    /// Adds the accuracy of a model.
    pub(super) fn add_accuracy(&mut self, variant: Variant, accuracy: AccuracyRecord) {
        if let Some(record) = self.models.get_mut(&variant) {
            record.accuracy = Some(accuracy);
        }
    }

    /// Adds the accuracy of the native model with activations in bfloat16.
    pub(super) fn add_accuracy_bf16(&mut self, accuracy: AccuracyRecord) {
        if let Some(record) = self.models.get_mut(&Variant::Native) {
            record.accuracy_bf16 = Some(accuracy);
        }
    }

    /// Adds a file that was written directly at its [`path`](Self::path).
    pub(super) fn adopt(&mut self, name: &str) -> Result<(), WriterError> {
        Ok(self.staging.adopt(name)?)
    }

    /// The manifest of the bundle written so far.
    pub(super) fn manifest(&self, description: &Description) -> Manifest {
        Manifest {
            format: FORMAT,
            created_by: concat!("embedd ", env!("CARGO_PKG_VERSION")).to_owned(),
            name: description.name.clone(),
            architecture: description.architecture.clone(),
            source: description.source.clone(),
            dimension: description.dimension,
            max_tokens: description.max_tokens,
            position_limit: description.position_limit,
            pooling: description.pooling.clone(),
            lowercase: description.lowercase,
            prompts: description.prompts.clone(),
            default_prompt: description.default_prompt.clone(),
            exclude_prompt: description.exclude_prompt,
            models: self.models.clone(),
            files: self.staging.files().clone(),
        }
    }

    /// Writes the manifest and moves the bundle to its destination, replacing an existing one.
    pub(super) fn finish(mut self, description: &Description) -> Result<(), WriterError> {
        let manifest = self.manifest(description);
        let json = serde_json::to_vec_pretty(&manifest).map_err(|error| io_error(&self.output)(error.into()))?;
        self.write(MANIFEST_FILE, &json)?;
        Ok(self.staging.commit(&self.output)?)
    }
}
