//! Which files of a folder hold the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use embedd_common::checksum::Sha256Hex;
use embedd_common::files::read_bounded;
use embedd_model::bundle::FileRecord;

use super::error::WeightsError;

/// In the order in which transformers looks for them: the first one that exists is read.
const CANDIDATES: [Candidate; 4] = [
    Candidate { file: "model.safetensors", suffix: ".safetensors", is_index: false },
    Candidate { file: "model.safetensors.index.json", suffix: ".safetensors", is_index: true },
    Candidate { file: "pytorch_model.bin", suffix: ".bin", is_index: false },
    Candidate { file: "pytorch_model.bin.index.json", suffix: ".bin", is_index: true },
];

/// An index of a thousand tensors has 100 kB.
const MAX_INDEX_BYTES: u64 = 16 << 20;
/// All shards are open at the same time.
const MAX_SHARDS: usize = 256;

#[derive(Debug)]
struct Candidate {
    file: &'static str,
    /// Of the file, or of the files that the index names.
    suffix: &'static str,
    is_index: bool,
}

/// The files of a folder that hold the weights.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checkpoint {
    folder: PathBuf,
    /// The only file with weights, or the index.
    main: &'static str,
    /// The files that the index names, in alphabetical order.
    shards: BTreeSet<String>,
    /// The file of each tensor, if there is an index.
    places: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Finds the weights in a folder, as transformers does: safetensors before PyTorch's format, one file before
    /// several.
    ///
    /// # Errors
    /// [`WeightsError::NotFound`]; [`WeightsError::Io`] or [`WeightsError::Malformed`] for the index.
    pub(crate) fn find(folder: &Path) -> Result<Self, WeightsError> {
        let exists = |candidate: &&Candidate| match folder.join(candidate.file).symlink_metadata() {
            Err(error) => error.kind() != io::ErrorKind::NotFound,
            // A link that leads nowhere is reported when it is opened.
            Ok(_) => true,
        };
        let Some(found) = CANDIDATES.iter().find(exists) else {
            let names = CANDIDATES.map(|candidate| candidate.file);
            let expected = format!("{} or {}", names[..3].join(", "), names[3]);
            return Err(WeightsError::NotFound { folder: folder.to_owned(), expected });
        };
        let folder = folder.to_owned();
        let main = found.file;
        if !found.is_index {
            return Ok(Self { folder, main, shards: BTreeSet::new(), places: BTreeMap::new() });
        }
        let places = read_index(&folder.join(main), found.suffix)?;
        let shards = places.values().cloned().collect();
        Ok(Self { folder, main, shards, places })
    }

    /// The names of the files that [`Self::find`] looks for, in this order.
    pub(crate) fn candidates() -> impl Iterator<Item = &'static str> {
        CANDIDATES.iter().map(|candidate| candidate.file)
    }

    /// The names of all files with weights, and of the index.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.main).chain(self.shards.iter().map(String::as_str))
    }

    /// The digest that identifies the weights, given the records of [`Self::files`]: of the file if there is only one.
    /// Of several shards, it is the digest of a line for each, sorted by name, as `sha256sum` prints them:
    /// `<sha256>  <name>\n`. The index is not part of it.
    ///
    /// # Panics
    /// If one of the records is missing.
    pub(crate) fn sha256(&self, records: &BTreeMap<String, FileRecord>) -> Sha256Hex {
        if self.shards.is_empty() {
            return records[self.main].sha256.clone();
        }
        let line = |name: &String| format!("{}  {name}\n", records[name].sha256);
        let lines: String = self.shards.iter().map(line).collect();
        Sha256Hex::of(lines.as_bytes())
    }

    /// The only file with weights, or the index.
    pub(super) fn main(&self) -> PathBuf {
        self.folder.join(self.main)
    }

    /// Name and path of each shard. Empty if there is one file only.
    pub(super) fn shards(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.shards.iter().map(|name| (name.as_str(), self.folder.join(name)))
    }

    /// The tensors that the index places in a shard.
    pub(super) fn placed_in(&self, shard: &str) -> impl Iterator<Item = &str> {
        self.places.iter().filter(move |(_, file)| *file == shard).map(|(tensor, _)| tensor.as_str())
    }
}

fn read_index(path: &Path, suffix: &str) -> Result<BTreeMap<String, String>, WeightsError> {
    let malformed = |reason| WeightsError::Malformed { path: path.to_owned(), format: "index of shards", reason };
    let bytes =
        read_bounded(path, MAX_INDEX_BYTES).map_err(|source| WeightsError::Io { path: path.to_owned(), source })?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    let files: BTreeSet<&String> = index.weight_map.values().collect();
    if files.is_empty() {
        return Err(malformed("weight_map is empty".to_owned()));
    }
    if files.len() > MAX_SHARDS {
        return Err(malformed(format!("it names {} files; the maximum is {MAX_SHARDS}", files.len())));
    }
    if let Some(file) = files.into_iter().find(|file| !is_plain_name(file, suffix)) {
        return Err(malformed(format!("{file:?} is not the plain name of a {suffix} file")));
    }
    Ok(index.weight_map)
}

/// The index is untrusted: its files must be in the model's folder.
fn is_plain_name(file: &str, suffix: &str) -> bool {
    file.ends_with(suffix)
        && !file.starts_with('.')
        && file.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests;
