//! Writes a bundle in a staging folder and moves it to its destination when it is complete.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::onnx::WriteError;
use embedd_common::checksum::HashingWriter;
use embedd_model::bundle::{
    AccuracyRecord, FORMAT, FileRecord, MANIFEST_FILE, Manifest, ModelRecord, Pooling, SourceRecord, Variant,
};

/// A bundle under construction, in a staging folder next to its destination. Dropping it removes the staging folder;
/// remains of a killed process are removed by the next conversion to the same destination.
#[derive(Debug)]
pub(super) struct BundleWriter {
    output: PathBuf,
    staging: PathBuf,
    /// Locked, so that only one process writes to the destination.
    _lock: File,
    files: BTreeMap<String, FileRecord>,
    models: BTreeMap<Variant, ModelRecord>,
}

/// The manifest without the files and models.
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
}

/// Why a bundle could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// The output exists.
    #[error("{0} already exists; replace it with `--force` or choose another `--output`")]
    OutputExists(PathBuf),
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
    /// A model could not be written.
    #[error("{path}: {source}")]
    Model {
        /// The ONNX file.
        path: PathBuf,
        /// The cause.
        source: WriteError,
    },
}

pub(super) fn io_error(path: &Path) -> impl Fn(io::Error) -> WriterError + '_ {
    |source| {
        let advice = advice(
            &source,
            "; free some space, or choose another disk with --output or EMBEDD_HOME (the float32 model is as large as \
             the source's weights)",
            "; choose another folder with --output or EMBEDD_HOME",
        );
        WriterError::Io { path: path.to_owned(), source, advice }
    }
}

/// Advice for a full disk and for missing permissions; empty for other errors.
pub(super) fn advice(error: &io::Error, full: &'static str, denied: &'static str) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => full,
        io::ErrorKind::PermissionDenied => denied,
        _ => "",
    }
}

impl BundleWriter {
    /// Creates the staging folder, on the same file system as `output`, so that it can be renamed.
    ///
    /// Waits for other writers to the same destination. Replaces an existing bundle only if `replace` is set.
    pub(super) fn create(output: &Path, replace: bool) -> Result<Self, WriterError> {
        let output = std::path::absolute(output).map_err(io_error(output))?;
        let parent = output.parent().unwrap_or(&output);
        fs::create_dir_all(parent).map_err(io_error(parent))?;
        let lock_path = sibling(&output, "lock");
        let lock = File::create(&lock_path).map_err(io_error(&lock_path))?;
        embedd_common::lock::lock(&lock, || {}).map_err(io_error(&lock_path))?;
        if output.exists() && !replace {
            return Err(WriterError::OutputExists(output));
        }
        let staging = sibling(&output, "converting");
        for stale in [&staging, &sibling(&output, "replaced")] {
            remove(stale).map_err(io_error(stale))?;
        }
        fs::create_dir(&staging).map_err(io_error(&staging))?;
        Ok(Self { output, staging, _lock: lock, files: BTreeMap::new(), models: BTreeMap::new() })
    }

    /// Copies a file of the source. It may be missing unless it is `required`.
    pub(super) fn copy(&mut self, from: &Path, name: &str, required: bool) -> Result<(), WriterError> {
        let mut reader = match File::open(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return Ok(()),
            result => result.map_err(io_error(from))?,
        };
        self.stream(name, |out| Ok(io::copy(&mut reader, out).map(|_| ())?))
    }

    /// Writes a file with `write` and returns its result.
    pub(super) fn stream<T>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut HashingWriter<BufWriter<File>>) -> Result<T, WriteError>,
    ) -> Result<T, WriterError> {
        let path = self.staging.join(name);
        let file = File::create(&path).map_err(io_error(&path))?;
        let mut out = HashingWriter::new(BufWriter::with_capacity(1 << 20, file));
        let result = write(&mut out).map_err(|error| match error {
            WriteError::Io(source) => io_error(&path)(source),
            source => WriterError::Model { path: path.clone(), source },
        })?;
        let (buffered, sha256, bytes) = out.finish();
        let file = buffered.into_inner().map_err(|error| io_error(&path)(error.into_error()))?;
        file.sync_all().map_err(io_error(&path))?;
        self.files.insert(name.to_owned(), FileRecord { sha256, bytes });
        Ok(result)
    }

    /// The path of a file in the staging folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.staging.join(name)
    }

    /// The length of a written file.
    pub(super) fn bytes(&self, name: &str) -> u64 {
        self.files.get(name).map_or(0, |record| record.bytes)
    }

    /// The total length of a model's files.
    pub(super) fn model_bytes(&self, model: &ModelRecord) -> u64 {
        model.files().map(|file| self.bytes(file)).sum()
    }

    pub(super) fn models(&self) -> &BTreeMap<Variant, ModelRecord> {
        &self.models
    }

    /// Removes a temporary file from the bundle.
    pub(super) fn discard(&mut self, name: &str) -> Result<(), WriterError> {
        let path = self.path(name);
        self.files.remove(name);
        fs::remove_file(&path).map_err(io_error(&path))
    }

    pub(super) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), WriterError> {
        self.stream(name, |out| Ok(out.write_all(bytes)?))
    }

    /// Records written files as a model.
    pub(super) fn add_model(&mut self, variant: Variant, file: &str, weights: Option<&str>, quantization: &str) {
        let record = ModelRecord {
            file: file.to_owned(),
            weights: weights.map(str::to_owned),
            quantization: quantization.to_owned(),
            accuracy: None,
        };
        self.models.insert(variant, record);
    }

    /// Records the accuracy of a model.
    pub(super) fn add_accuracy(&mut self, variant: Variant, accuracy: AccuracyRecord) {
        if let Some(record) = self.models.get_mut(&variant) {
            record.accuracy = Some(accuracy);
        }
    }

    /// Records a file that was written to its path without this writer.
    pub(super) fn adopt(&mut self, name: &str) -> Result<(), WriterError> {
        let path = self.path(name);
        let record = FileRecord::of(&path).map_err(io_error(&path))?;
        self.files.insert(name.to_owned(), record);
        Ok(())
    }

    /// The manifest of the current contents.
    pub(super) fn manifest(&self, description: &Description) -> Manifest {
        Manifest {
            format: FORMAT,
            created_by: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
            name: description.name.clone(),
            architecture: description.architecture.clone(),
            source: description.source.clone(),
            dimension: description.dimension,
            max_tokens: description.max_tokens,
            position_limit: description.position_limit,
            pooling: description.pooling,
            lowercase: description.lowercase,
            models: self.models.clone(),
            files: self.files.clone(),
        }
    }

    /// Writes the manifest and moves the folder to its destination, where it replaces an existing one.
    pub(super) fn finish(mut self, description: &Description) -> Result<(), WriterError> {
        let manifest = self.manifest(description);
        let json = serde_json::to_vec_pretty(&manifest).map_err(|error| io_error(&self.output)(error.into()))?;
        self.stream(MANIFEST_FILE, |out| Ok(out.write_all(&json)?))?;
        self.move_in_place()
    }

    fn move_in_place(self) -> Result<(), WriterError> {
        let output = &self.output;
        if !output.exists() {
            return fs::rename(&self.staging, output).map_err(io_error(output));
        }
        // Two renames: readers see the old bundle, briefly none, then the new one, but never a mixture.
        let replaced = sibling(output, "replaced");
        fs::rename(output, &replaced).map_err(io_error(output))?;
        if let Err(error) = fs::rename(&self.staging, output) {
            fs::rename(&replaced, output).map_err(io_error(&replaced))?;
            return Err(io_error(output)(error));
        }
        // The new bundle is complete. The next conversion removes what may remain of the old one.
        let _ = remove(&replaced);
        Ok(())
    }
}

impl Drop for BundleWriter {
    fn drop(&mut self) {
        // Does nothing after a move. If it fails, the next conversion tries again.
        let _ = remove(&self.staging);
    }
}

/// A hidden path next to the output.
fn sibling(output: &Path, suffix: &str) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!(".{name}.{suffix}"))
}

/// Removes a folder if it exists.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
