//! Which model: a hub id such as `sentence-transformers/all-mpnet-base-v2`, or a folder.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The model that is fetched, converted and served where none is named.
pub const DEFAULT_MODEL: &str = "sentence-transformers/all-mpnet-base-v2";

/// A model as a user names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModelRef {
    /// A model of the Hugging Face hub (some can be had by pip, too).
    Hub(ModelId),
    /// A sentence-transformers folder on this machine.
    Folder(PathBuf),
}

/// `organisation/name` on the hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelId(String);

/// Text that names no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is neither a folder on this machine nor a hub id: {reason}; write `organisation/name` (such as \
     `{DEFAULT_MODEL}`) or the path of a sentence-transformers folder"
)]
pub struct InvalidModelRef {
    text: String,
    reason: &'static str,
}

impl ModelId {
    /// As the hub writes it: `organisation/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part behind the slash.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// As one file name: `organisation--name`.
    pub fn as_file_name(&self) -> String {
        self.0.replace('/', "--")
    }
}

impl ModelRef {
    /// What the API and the bundle call the model: the hub id, or the folder's own name.
    pub fn display_name(&self) -> String {
        match self {
            Self::Hub(id) => id.as_str().to_owned(),
            Self::Folder(path) => folder_name(path),
        }
    }

    /// A file name that is this model's alone, whatever folders share a last name.
    pub fn as_file_name(&self) -> String {
        match self {
            Self::Hub(id) => id.as_file_name(),
            Self::Folder(path) => {
                let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let hash = embedd_common::checksum::Sha256Hex::of(whole.as_os_str().as_encoded_bytes());
                format!("folder--{}--{}", folder_name(path), &hash.as_str()[..12])
            }
        }
    }
}

fn folder_name(path: &Path) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    whole.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

impl FromStr for ModelRef {
    type Err = InvalidModelRef;

    /// A text that begins like a path, or that is a folder here, is a folder; everything else must be a hub id.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let like_a_path = text.starts_with(['/', '.', '~']) || text.contains('\\');
        if like_a_path || Path::new(text).is_dir() {
            return Ok(Self::Folder(PathBuf::from(text)));
        }
        text.parse().map(Self::Hub)
    }
}

impl FromStr for ModelId {
    type Err = InvalidModelRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| InvalidModelRef { text: text.to_owned(), reason };
        let (organisation, name) = text.split_once('/').ok_or_else(|| invalid("it has no `/`"))?;
        for part in [organisation, name] {
            if part.is_empty() {
                return Err(invalid("a part of it is empty"));
            }
            if part.starts_with(['.', '-']) || part.contains("..") {
                return Err(invalid("a part of it begins with `.` or `-`, or holds `..`"));
            }
            if !part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
                return Err(invalid("it may hold letters, digits, `-`, `_`, `.` and one `/`"));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub(id) => id.fmt(f),
            Self::Folder(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_and_paths_are_told_apart() {
        assert!(matches!("sentence-transformers/all-mpnet-base-v2".parse(), Ok(ModelRef::Hub(_))));
        assert!(matches!("./all-mpnet-base-v2".parse(), Ok(ModelRef::Folder(_))));
        assert!(matches!("/models/mpnet".parse(), Ok(ModelRef::Folder(_))));
        assert!(matches!("src".parse(), Ok(ModelRef::Folder(_))), "a folder that exists");
    }

    #[test]
    fn what_could_leave_the_cache_folder_is_no_hub_id() {
        for text in ["", "mpnet", "a/../b", "a/b/c", "-a/b", "a/.b", "a/b c", "a/", "/"] {
            assert!(text.parse::<ModelId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn folders_of_one_name_have_file_names_of_their_own() {
        let a = ModelRef::Folder("/one/mpnet".into()).as_file_name();
        let b = ModelRef::Folder("/two/mpnet".into()).as_file_name();
        assert!(a.starts_with("folder--mpnet--") && b.starts_with("folder--mpnet--"));
        assert_ne!(a, b);
    }
}
