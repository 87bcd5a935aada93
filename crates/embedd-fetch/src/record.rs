//! `fetched.json`: what a fetched folder holds and where it came from. It is written last, so a folder that has it was
//! whole once.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::catalog::Pin;
use embedd_common::checksum::Sha256Hex;

/// The record's name within the folder.
pub const RECORD_FILE: &str = "fetched.json";
/// Grows when a record of before cannot be understood any more.
const FORMAT: u32 = 1;

/// What a fetched folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// Where it came from.
    pub source: Source,
    /// Every file by its path within the folder, with `/`.
    pub files: BTreeMap<String, FileRecord>,
}

/// Where a folder came from. Names no host: a mirror has the same files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The Hugging Face hub.
    Hub {
        /// `organisation/name`.
        model: String,
        /// The branch, tag or commit that was asked for.
        revision: String,
        /// The commit that it was, where the hub said so.
        commit: Option<String>,
    },
    /// pip.
    Pip {
        /// `name==version` of each package.
        packages: Vec<String>,
    },
}

/// One file as it was when it was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Sha256Hex,
}

impl Source {
    /// Whether this is what someone gets who asks for `revision`.
    pub(super) fn is_revision(&self, revision: &str) -> bool {
        match self {
            Self::Hub { revision: asked, commit, .. } => asked == revision || commit.as_deref() == Some(revision),
            Self::Pip { .. } => false,
        }
    }
}

impl Record {
    pub(super) fn new(source: Source, files: BTreeMap<String, FileRecord>) -> Self {
        Self { format: FORMAT, source, files }
    }

    /// Reads the record of `folder`; `None` where there is none.
    ///
    /// # Errors
    /// What reading failed with; a record that cannot be understood is [`io::ErrorKind::InvalidData`].
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read(folder.join(RECORD_FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let record: Self = serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
        if record.format != FORMAT {
            return Err(invalid(format!("its format is {}, this version of embedd reads {FORMAT}", record.format)));
        }
        Ok(Some(record))
    }

    /// As it is written.
    pub(super) fn to_json(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec_pretty(self)?)
    }

    /// What is wrong with `folder`: each file that is not as recorded, or whose record is not as pinned.
    pub(super) fn faults(&self, folder: &Path, pins: &[Pin], depth: Depth) -> Vec<String> {
        let files = self.files.iter().filter_map(|(name, file)| file.fault(name, folder, depth));
        let pinned = pins.iter().filter_map(|pin| match self.files.get(pin.file) {
            None => Some(format!("`{}` is not in its record", pin.file)),
            Some(file) if file.sha256.as_str() != pin.sha256 => {
                Some(format!("`{}` is another one than this version of embedd knows", pin.file))
            }
            Some(_) => None,
        });
        files.chain(pinned).collect()
    }
}

/// How closely a folder is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The sizes: a few microseconds a file, for every start.
    Sizes,
    /// The contents.
    Contents,
}

impl FileRecord {
    fn fault(&self, name: &str, folder: &Path, depth: Depth) -> Option<String> {
        let path = folder.join(name);
        let found = match fs::metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(format!("`{name}` is missing")),
            Err(error) => return Some(format!("`{name}` cannot be looked at: {error}")),
        };
        if !found.is_file() {
            return Some(format!("`{name}` is no file"));
        }
        if found.len() != self.bytes {
            return Some(format!("`{name}` has {} bytes instead of {}", found.len(), self.bytes));
        }
        if depth == Depth::Sizes {
            return None;
        }
        match Sha256Hex::of_file(&path) {
            Ok(found) if found == self.sha256 => None,
            Ok(_) => Some(format!("`{name}` does not have its sha256 any more")),
            Err(error) => Some(format!("`{name}` cannot be read: {error}")),
        }
    }
}
