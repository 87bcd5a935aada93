//! The tensors of a file that `torch.save` wrote: a pickle that describes them, and the bytes of their storages.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::WeightsError;
use super::stored::{Layout, Stored};

mod archive;
mod heap;
mod input;
mod legacy;
mod pickle;

use heap::{Storage, TensorView};
use pickle::Unpickled;

/// A tensor takes about 130 bytes, so this suffices for 60,000.
const MAX_PICKLE_BYTES: u64 = 8 << 20;

/// The start of a zip archive, in which PyTorch stores tensors since version 1.6.
const ZIP_START: &[u8] = b"PK\x03\x04";
/// The start of a pickle of protocol 2 or later.
const PICKLE_START: u8 = 0x80;

/// Why a file cannot be read.
#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    Malformed(String),
    Unsupported(String),
    /// The global that is not a tensor.
    Forbidden(String),
}

/// Positions in the file of the first bytes of all storages, by their keys.
type Positions = BTreeMap<String, u64>;

impl Failure {
    fn of(self, path: &Path) -> WeightsError {
        let path = path.to_owned();
        match self {
            Self::Io(source) => WeightsError::Io { path, source },
            Self::Malformed(reason) => WeightsError::Malformed { path, format: "PyTorch file", reason },
            Self::Unsupported(reason) => WeightsError::Unsupported { path, reason },
            Self::Forbidden(global) => WeightsError::Forbidden { path, global },
        }
    }
}

/// The tensors of a state dict. Nothing in the file is executed.
///
/// # Errors
/// [`WeightsError::Io`], [`WeightsError::Malformed`], [`WeightsError::Unsupported`] or [`WeightsError::Forbidden`].
pub(super) fn tensors(path: &Path, file: &File) -> Result<Vec<(String, Stored)>, WeightsError> {
    read(file).map_err(|failure| failure.of(path))
}

fn read(file: &File) -> Result<Vec<(String, Stored)>, Failure> {
    let length = file.metadata().map_err(Failure::Io)?.len();
    let mut start = [0; ZIP_START.len()];
    if length < start.len() as u64 {
        return Err(Failure::Malformed(format!("its {length} bytes are too few")));
    }
    file.read_exact_at(&mut start, 0).map_err(Failure::Io)?;
    if start == ZIP_START {
        archive::read(file, length)
    } else if start[0] == PICKLE_START {
        legacy::read(file, length)
    } else {
        Err(Failure::Malformed("it is neither a zip archive nor a pickle".to_owned()))
    }
}

/// Combines the names and shapes in a state dict with the positions of its storages.
fn located(state: &Unpickled<'_>, positions: &Positions) -> Result<Vec<(String, Stored)>, Failure> {
    let entries = state.dict().ok_or_else(|| {
        Failure::Unsupported("it holds something else than a dict of tensors by name (a state dict)".to_owned())
    })?;
    // The last one of a name counts. The names must not be copied before: many may be the same long text.
    let named = entries.iter().filter_map(|&(name, value)| Some((name.text()?, state.tensor(value)?)));
    let views: BTreeMap<&str, &TensorView<'_>> = named.collect();
    if views.is_empty() {
        let keys: Vec<_> = entries.iter().filter_map(|(name, _)| name.text()).take(3).map(printable).collect();
        let keys = if keys.is_empty() { String::new() } else { format!("; it has {}", keys.join(", ")) };
        return Err(Failure::Unsupported(format!("it holds a dict without tensors{keys}")));
    }
    let stored = views.into_iter().map(|(name, view)| {
        let stored = locate(view, positions)
            .map_err(|reason| Failure::Malformed(format!("tensor `{}`: {reason}", printable(name))))?;
        Ok((name.to_owned(), stored))
    });
    stored.collect()
}

fn locate(view: &TensorView<'_>, positions: &Positions) -> Result<Stored, String> {
    let storage = &view.storage;
    let position =
        positions.get(storage.key).ok_or_else(|| format!("there is no storage {}", printable(storage.key)))?;
    // The first element of an empty tensor may be at the end.
    let stored = storage
        .elements
        .checked_sub(view.offset)
        .ok_or_else(|| format!("offset {} is beyond the {} elements of its storage", view.offset, storage.elements))?;
    let layout = Layout::of_view(&view.shape, &view.strides, stored)?;
    let elements_before = storage.first + view.offset;
    let offset = position + elements_before * storage.width();
    Ok(Stored { dtype: storage.dtype, shape: view.shape.clone(), offset, layout })
}

/// Text from a file, without control characters and bounded, for a message.
fn printable(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    text.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect()
}

/// The number of bytes of a storage.
///
/// # Errors
/// If the file cannot have that many.
fn storage_bytes(storage: &Storage<'_>, length: u64) -> Result<u64, Failure> {
    let bytes = storage.elements.checked_mul(storage.width()).filter(|&bytes| bytes <= length);
    bytes.ok_or_else(|| {
        let key = printable(storage.key);
        Failure::Malformed(format!("storage {key} has {} elements, more than the file", storage.elements))
    })
}

#[cfg(test)]
mod tests;
