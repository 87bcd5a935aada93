//! `fetched.json`: the contents and origin of a fetched folder. It is written last, so a folder that has it was once
//! complete.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::catalog::Pin;
use embedd_common::checksum::{FileRecord, Sha256Hex};
use embedd_common::files::read_bounded;

/// The name of the record in the folder.
pub const RECORD_FILE: &str = "fetched.json";
/// Incremented when older records can no longer be read.
const FORMAT: u32 = 1;
/// A record has a few kilobytes.
const MAX_BYTES: u64 = 1 << 20;

/// The contents and origin of a fetched folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// The origin.
    pub source: Source,
    /// Every file by its path in the folder, with `/` as the separator.
    pub files: BTreeMap<String, FileRecord>,
}

/// The origin of a folder. No host is recorded, because mirrors have the same files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The Hugging Face hub.
    Hub {
        /// `organization/name`.
        model: String,
        /// The requested branch, tag or commit.
        revision: String,
        /// The commit that was fetched, if the hub reported it.
        commit: Option<String>,
    },
    /// pip.
    Pip {
        /// Each package as `name==version`.
        packages: Vec<String>,
    },
}

impl Record {
    pub(super) fn new(source: Source, files: BTreeMap<String, FileRecord>) -> Self {
        Self { format: FORMAT, source, files }
    }

    /// Reads the record of `folder`; `None` if it has none.
    ///
    /// # Errors
    /// The record cannot be read. The kind is [`io::ErrorKind::InvalidData`] if its contents are invalid.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        let text = match read_bounded(&folder.join(RECORD_FILE), MAX_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let record: Self = serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
        if record.format != FORMAT {
            return Err(invalid(format!(
                "its format is {}, but this version of embedd reads format {FORMAT}",
                record.format
            )));
        }
        Ok(Some(record))
    }

    pub(super) fn to_json(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec_pretty(self)?)
    }

    /// The faults of `folder`: files that differ from their record, and records that differ from their pin.
    pub(super) fn faults(&self, folder: &Path, pins: &[Pin], depth: Depth) -> Vec<String> {
        let files = self.files.iter().filter_map(|(name, file)| fault(file, name, folder, depth));
        let pinned = pins.iter().filter_map(|pin| match self.files.get(pin.file) {
            None => Some(format!("`{}` is not in its record", pin.file)),
            Some(file) if file.sha256.as_str() != pin.sha256 => {
                Some(format!("`{}` is not the file that this version of embedd expects", pin.file))
            }
            Some(_) => None,
        });
        files.chain(pinned).collect()
    }
}

/// How thoroughly a folder is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Only the sizes. Takes microseconds per file, so it runs at every start.
    Sizes,
    /// Sizes and digests.
    Contents,
}

/// The difference between a file in `folder` and its record, if any.
fn fault(record: &FileRecord, name: &str, folder: &Path, depth: Depth) -> Option<String> {
    let path = folder.join(name);
    let found = match fs::metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(format!("`{name}` is missing")),
        Err(error) => return Some(format!("`{name}` cannot be inspected: {error}")),
    };
    if !found.is_file() {
        return Some(format!("`{name}` is not a file"));
    }
    let mut checked = record.check_length(Path::new(name), found.len());
    if checked.is_ok() && depth == Depth::Contents {
        checked = match Sha256Hex::of_file(&path) {
            Ok(found) => record.check_digest(Path::new(name), &found),
            Err(error) => return Some(format!("`{name}` cannot be read: {error}")),
        };
    }
    checked.err().map(|changed| changed.to_string())
}
