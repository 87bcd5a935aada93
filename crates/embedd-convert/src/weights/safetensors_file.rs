//! The header of a safetensors file.

use std::cmp::Ordering;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use safetensors::tensor::Metadata;

use super::error::WeightsError;
use super::stored::{Layout, Stored};

/// The size in bytes of the header's length, a little-endian u64 at the start of the file.
const LENGTH_BYTES: u64 = 8;
/// The header of an encoder with a thousand tensors has 100 kB. The format allows 100 MB, which take many times as much
/// memory when they are parsed.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// The tensors of a file, after its header was checked against its length.
///
/// # Errors
/// [`WeightsError::Io`], [`WeightsError::Truncated`] or [`WeightsError::Malformed`].
pub(super) fn tensors(path: &Path, file: &File) -> Result<Vec<(String, Stored)>, WeightsError> {
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    let malformed =
        |reason: String| WeightsError::Malformed { path: path.to_owned(), format: "safetensors file", reason };
    let actual = file.metadata().map_err(io)?.len();
    if actual < LENGTH_BYTES {
        return Err(malformed(format!("its {actual} bytes are too few for a header")));
    }
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact_at(&mut length, 0).map_err(io)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(malformed(format!("a header of {length} bytes is too long")));
    }
    let data_start = LENGTH_BYTES + length;
    if actual < data_start {
        return Err(WeightsError::Truncated { path: path.to_owned(), expected: data_start, actual });
    }
    // At most MAX_HEADER_BYTES, checked above.
    let mut header = vec![0; length as usize];
    file.read_exact_at(&mut header, LENGTH_BYTES).map_err(io)?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| malformed(error.to_string()))?;
    let expected = data_start.saturating_add(metadata.data_len() as u64);
    match actual.cmp(&expected) {
        Ordering::Less => Err(WeightsError::Truncated { path: path.to_owned(), expected, actual }),
        Ordering::Greater => Err(malformed(format!("{} bytes follow the last tensor", actual - expected))),
        Ordering::Equal => Ok(stored(&metadata, data_start)),
    }
}

fn stored(metadata: &Metadata, data_start: u64) -> Vec<(String, Stored)> {
    let tensors = metadata.tensors();
    let stored = tensors.into_iter().map(|(name, info)| {
        let offset = data_start + info.data_offsets.0 as u64;
        (name, Stored { dtype: info.dtype, shape: info.shape.clone(), offset, layout: Layout::RowMajor })
    });
    stored.collect()
}
