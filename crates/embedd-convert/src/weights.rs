//! Reads tensors of a checkpoint one at a time, so that the model need not fit in memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use embedd_common::files::open_regular;

mod checkpoint;
mod error;
mod safetensors_file;
mod stored;
mod torch;

pub(crate) use checkpoint::Checkpoint;
pub(crate) use error::WeightsError;
use stored::{Layout, Stored, is_float};

/// The start of a file that `git clone` leaves in place of one that Git LFS stores.
const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// The tensors of a checkpoint: of one file, or of several with an index.
///
/// Names are those of today: `LayerNorm.gamma` and `LayerNorm.beta` of old checkpoints are listed as `LayerNorm.weight`
/// and `LayerNorm.bias`.
#[derive(Debug)]
pub(crate) struct Weights {
    /// The only file, or the index.
    path: PathBuf,
    files: Vec<WeightsFile>,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct WeightsFile {
    path: PathBuf,
    file: File,
}

#[derive(Debug)]
struct Entry {
    /// The position in [`Weights::files`].
    file: usize,
    stored: Stored,
}

/// A floating-point tensor, read on demand.
#[derive(Debug, Clone)]
pub(crate) struct Tensor<'w> {
    file: &'w WeightsFile,
    name: String,
    stored: Cow<'w, Stored>,
}

impl Weights {
    /// Opens one file: in PyTorch's format if its name ends in `.bin`, otherwise safetensors.
    ///
    /// # Errors
    /// [`WeightsError`] if it cannot be read, or is malformed.
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        let (file, tensors) = open_file(path)?;
        let tensors = tensors.into_iter().map(|(name, stored)| (name, Entry { file: 0, stored })).collect();
        Ok(Self { path: path.to_owned(), files: vec![file], tensors: with_current_names(tensors) })
    }

    /// Opens whichever weights a folder has, as transformers does.
    ///
    /// # Errors
    /// As [`Checkpoint::find`] and [`Self::open_checkpoint`].
    #[cfg(test)]
    pub(crate) fn open_folder(folder: &Path) -> Result<Self, WeightsError> {
        Self::open_checkpoint(&Checkpoint::find(folder)?)
    }

    /// Opens all files of a checkpoint.
    ///
    /// # Errors
    /// As [`Self::open`]; also [`WeightsError::NotInShard`] if a tensor is not where the index places it.
    pub(crate) fn open_checkpoint(checkpoint: &Checkpoint) -> Result<Self, WeightsError> {
        let mut files = Vec::new();
        let mut tensors = Vec::new();
        for (name, path) in checkpoint.shards() {
            let (file, in_file) = open_file(&path)?;
            let mut in_file: BTreeMap<String, Stored> = in_file.into_iter().collect();
            for tensor in checkpoint.placed_in(name) {
                let Some(stored) = in_file.remove(tensor) else {
                    let index = checkpoint.main();
                    return Err(WeightsError::NotInShard { path, tensor: tensor.to_owned(), index });
                };
                tensors.push((tensor.to_owned(), Entry { file: files.len(), stored }));
            }
            files.push(file);
        }
        if files.is_empty() {
            return Self::open(&checkpoint.main());
        }
        Ok(Self { path: checkpoint.main(), files, tensors: with_current_names(tensors) })
    }

    /// The only file, or the index.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, in alphabetical order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    /// Whether there is a tensor with this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A required tensor with this shape. Errors name `because` as the source of the shape.
    ///
    /// # Errors
    /// [`WeightsError::Missing`], [`WeightsError::Shape`], [`WeightsError::Type`] or [`WeightsError::Unsupported`].
    pub(crate) fn tensor(&self, name: &str, shape: &[usize], because: &str) -> Result<Tensor<'_>, WeightsError> {
        let Some(Entry { file, stored }) = self.tensors.get(name) else {
            let hint = self.nearest(name).map_or_else(String::new, |near| format!("; it has `{near}`"));
            return Err(WeightsError::Missing {
                path: self.path.clone(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                hint,
            });
        };
        let file = &self.files[*file];
        let path = || file.path.clone();
        if stored.shape != shape {
            return Err(WeightsError::Shape {
                path: path(),
                tensor: name.to_owned(),
                actual: stored.shape.clone(),
                expected: shape.to_vec(),
                because: because.to_owned(),
            });
        }
        if !is_float(stored.dtype) {
            return Err(WeightsError::Type { path: path(), tensor: name.to_owned(), dtype: stored.dtype });
        }
        if stored.layout == Layout::Repeated {
            let reason = format!("tensor `{name}` has more elements than the file stores for it");
            return Err(WeightsError::Unsupported { path: path(), reason });
        }
        Ok(Tensor { file, name: name.to_owned(), stored: Cow::Borrowed(stored) })
    }

    /// The tensor whose name shares the longest suffix with `name`: it reveals an unexpected prefix.
    fn nearest(&self, name: &str) -> Option<String> {
        let shared = |other: &str| name.bytes().rev().zip(other.bytes().rev()).take_while(|(a, b)| a == b).count();
        self.names().into_iter().max_by_key(|other| shared(other)).filter(|other| shared(other) > 8)
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Weights {
    /// Reads every tensor by its own shape, and checks that its values match it.
    pub(crate) fn read_all(&self) {
        for (name, entry) in &self.tensors {
            let shape = &entry.stored.shape;
            let values = self.tensor(name, shape, "the file").and_then(|tensor| tensor.read());
            if let Ok(values) = values {
                assert_eq!(values.len(), shape.iter().product::<usize>());
            }
        }
    }
}

impl Tensor<'_> {
    /// The dimensions, outermost first.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.stored.shape
    }

    /// A range of the outermost dimension, as a tensor.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Self {
        Self { file: self.file, name: self.name.clone(), stored: Cow::Owned(self.stored.rows(rows)) }
    }

    /// The values in row-major order.
    ///
    /// # Errors
    /// [`WeightsError::Io`] or [`WeightsError::NotFinite`].
    pub(crate) fn read(&self) -> Result<Vec<f32>, WeightsError> {
        let WeightsFile { path, file } = self.file;
        let values = self.stored.read(file).map_err(|source| WeightsError::Io { path: path.clone(), source })?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(WeightsError::NotFinite { path: path.clone(), tensor: self.name.clone(), index }),
            None => Ok(values),
        }
    }
}

fn open_file(path: &Path) -> Result<(WeightsFile, Vec<(String, Stored)>), WeightsError> {
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    let file = open_regular(path).map_err(io)?;
    if is_lfs_pointer(&file).map_err(io)? {
        return Err(WeightsError::Pointer { path: path.to_owned() });
    }
    let tensors = match path.extension() {
        Some(extension) if extension == "bin" => torch::tensors(path, &file)?,
        _ => safetensors_file::tensors(path, &file)?,
    };
    Ok((WeightsFile { path: path.to_owned(), file }, tensors))
}

fn is_lfs_pointer(file: &File) -> io::Result<bool> {
    let mut start = [0; LFS_POINTER.len()];
    match file.read_exact_at(&mut start, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| start == LFS_POINTER),
    }
}

/// Renames what transformers renames. A tensor that already has the current name is preferred.
fn with_current_names(tensors: Vec<(String, Entry)>) -> BTreeMap<String, Entry> {
    let mut current = BTreeMap::new();
    let mut renamed = Vec::new();
    for (name, entry) in tensors {
        match current_name(&name) {
            Some(name) => renamed.push((name, entry)),
            None => drop(current.insert(name, entry)),
        }
    }
    for (name, entry) in renamed {
        current.entry(name).or_insert(entry);
    }
    current
}

/// The current name of a tensor, if it has an old one.
fn current_name(name: &str) -> Option<String> {
    const RENAMED: [(&str, &str); 2] = [("gamma", "weight"), ("beta", "bias")];
    RENAMED.iter().find_map(|(old, new)| {
        let norm = name.strip_suffix(old)?;
        norm.ends_with("LayerNorm.").then(|| format!("{norm}{new}"))
    })
}

#[cfg(test)]
mod tests;
