//! Packs a bundle into a tarball.
//!
//! The tarball has the portable model, the tokenizer's files, the report and checksums, for programs that run the model
//! themselves. It also has the manifest and, if the bundle has one, the native model, so that embedd can serve the
//! unpacked folder. The same bundle produces the same bytes on every machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};

use embedd_common::checksum::{HashingReader, HashingWriter};
use embedd_common::files::open_regular;
use embedd_common::progress::{Progress, Task, Unit};
use embedd_model::bundle::{
    Bundle, BundleError, FileRecord, MANIFEST_FILE, ModelRecord, PORTABLE_FILE, REFERENCE_FILE, TOKENIZER_FILE, Variant,
};

mod error;
mod staging;
mod verify;

pub use error::PackageError;
use staging::StagedTarball;
pub use verify::verify;

/// The file with the checksums, in the format of `sha256sum -c`.
pub const SUMS_FILE: &str = "SHA256SUMS";

/// The top-level folder in the tarball; it contains the model's folder.
const ROOT: &str = "onnx_models";
/// Files that every tarball has.
const REQUIRED: [&str; 3] = [PORTABLE_FILE, "config.json", TOKENIZER_FILE];
/// Files that are packed if the bundle has them.
const OPTIONAL: [&str; 6] =
    ["tokenizer_config.json", "special_tokens_map.json", REFERENCE_FILE, "report.md", "report.json", "report.html"];
/// Weights hardly compress at any level; higher levels only take longer.
const COMPRESSION: u32 = 6;
/// "Unknown" in a gzip header, so that the bytes do not depend on the machine.
const NO_OPERATING_SYSTEM: u8 = 255;

/// A complete and verified tarball.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its path.
    pub path: PathBuf,
    /// Checksum and length of the tarball.
    pub record: FileRecord,
    /// The folder in the tarball that contains the files, without a trailing slash.
    pub folder: String,
    /// The files by name, except [`SUMS_FILE`].
    pub files: BTreeMap<String, FileRecord>,
}

/// A file to pack.
struct Packed {
    path: PathBuf,
    record: FileRecord,
}

/// Packs the bundle's quantized models into a tarball at `output`, provided that they passed the accuracy gate. Replaces
/// an existing tarball only if `replace` is set.
///
/// # Errors
/// Any [`PackageError`] except `Archive`. No partial tarball remains, and an existing one is unchanged.
pub fn package(bundle: &Bundle, output: &Path, replace: bool, progress: &Progress) -> Result<Package, PackageError> {
    let models = proven(bundle)?;
    let folder = format!("{ROOT}/{}", model_name(bundle)?);
    let staged = StagedTarball::create(output, replace)?;
    let files = contents(bundle, &models)?;

    let total = files.values().map(|file| file.record.bytes).sum();
    let task = progress.task(&format!("packing {}", staged.output().display()), Some(total), Unit::Bytes);
    let record = write(staged.file(), &folder, &files, &task).map_err(|error| error.at(staged.output()))?;
    task.finish();
    let path = staged.persist()?;
    let files = files.into_iter().map(|(name, file)| (name, file.record)).collect();
    Ok(Package { path, record, folder, files })
}

/// The models to pack, which must have passed the accuracy gate: the portable one and, if present, the native one.
fn proven(bundle: &Bundle) -> Result<Vec<&ModelRecord>, PackageError> {
    let folder = || bundle.folder().to_owned();
    let models = &bundle.manifest().models;
    if !models.contains_key(&Variant::Portable) {
        return Err(PackageError::NoPortable { folder: folder() });
    }
    let packed = models.iter().filter(|(variant, _)| **variant != Variant::Fp32);
    packed
        .map(|(&variant, model)| match model.accuracy {
            None => Err(PackageError::Unproven { folder: folder(), variant }),
            Some(accuracy) if !accuracy.passed() => {
                Err(PackageError::Inaccurate { folder: folder(), variant, accuracy })
            }
            Some(_) => Ok(model),
        })
        .collect()
}

/// The last component of the model's name, if it is a valid folder name.
fn model_name(bundle: &Bundle) -> Result<&str, PackageError> {
    let name = &bundle.manifest().name;
    let last = name.rsplit('/').next().unwrap_or(name);
    if is_file_name(last) { Ok(last) } else { Err(PackageError::Name { name: name.clone() }) }
}

/// Whether the text is a plain file name, which cannot escape from its folder or break a line of [`SUMS_FILE`].
fn is_file_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.contains(['/', '\\']) && !text.chars().any(char::is_control)
}

/// The files to pack. Their checksums are verified.
fn contents(bundle: &Bundle, models: &[&ModelRecord]) -> Result<BTreeMap<String, Packed>, PackageError> {
    let files = &bundle.manifest().files;
    if let Some(file) = REQUIRED.into_iter().find(|file| !files.contains_key(*file)) {
        return Err(PackageError::MissingFile { manifest: bundle.folder().join(MANIFEST_FILE), file });
    }
    // A set, because the portable model is also a required file and must not be read twice.
    let of_models = models.iter().flat_map(|model| model.files());
    let names: BTreeSet<&str> = of_models.chain(REQUIRED).chain(OPTIONAL).collect();
    let mut contents = BTreeMap::new();
    for file in names {
        if let Some(record) = files.get(file) {
            let path = bundle.verify(file)?;
            contents.insert(file.to_owned(), Packed { path, record: record.clone() });
        }
    }
    let manifest = bundle.folder().join(MANIFEST_FILE);
    let bytes = manifest.metadata().map_err(|error| PackageError::io(&manifest, error))?.len();
    let record = FileRecord { sha256: bundle.fingerprint().clone(), bytes };
    contents.insert(MANIFEST_FILE.to_owned(), Packed { path: manifest, record });
    Ok(contents)
}

/// Why packing failed.
enum WriteError {
    /// The tarball could not be written, or a file could not be read.
    Io(io::Error),
    /// A file has changed since it was verified.
    Changed(BundleError),
}

impl WriteError {
    fn at(self, output: &Path) -> PackageError {
        match self {
            Self::Io(source) => PackageError::io(output, source),
            Self::Changed(error) => error.into(),
        }
    }
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

type Tar<'f> = tar::Builder<GzEncoder<HashingWriter<BufWriter<&'f File>>>>;

/// Writes the tarball: [`SUMS_FILE`] first, then the files by name.
fn write(file: &File, folder: &str, files: &BTreeMap<String, Packed>, task: &Task) -> Result<FileRecord, WriteError> {
    let out = HashingWriter::new(BufWriter::with_capacity(1 << 20, file));
    let gzip =
        GzBuilder::new().mtime(0).operating_system(NO_OPERATING_SYSTEM).write(out, Compression::new(COMPRESSION));
    let mut tar = tar::Builder::new(gzip);
    let sums = sums(files);
    append(&mut tar, &format!("{folder}/{SUMS_FILE}"), sums.len() as u64, sums.as_bytes())?;
    for (name, packed) in files {
        let source = Counted { inner: open_regular(&packed.path)?.take(packed.record.bytes), task };
        let mut source = HashingReader::new(source);
        append(&mut tar, &format!("{folder}/{name}"), packed.record.bytes, &mut source)?;
        let checked = packed.record.check_digest(&packed.path, &source.finish());
        checked.map_err(|changed| WriteError::Changed(changed.into()))?;
    }
    let (buffered, sha256, bytes) = tar.into_inner()?.finish()?.finish();
    buffered.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(FileRecord { sha256, bytes })
}

fn append(tar: &mut Tar<'_>, path: &str, bytes: u64, source: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes);
    tar.append_data(&mut header, path, source)
}

/// The contents of [`SUMS_FILE`].
fn sums(files: &BTreeMap<String, Packed>) -> String {
    files.iter().map(|(name, file)| format!("{}  {name}\n", file.record.sha256)).collect()
}

/// Reports the number of bytes read to a progress task.
struct Counted<'t, R> {
    inner: R,
    task: &'t Task,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.task.advance(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
