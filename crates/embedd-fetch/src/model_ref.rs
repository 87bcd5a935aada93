//! References to models: a hub ID such as `sentence-transformers/all-mpnet-base-v2`, or a folder.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::revision::Revision;

/// The default model to fetch, convert and serve.
pub const DEFAULT_MODEL: &str = "sentence-transformers/all-mpnet-base-v2";

/// A model as named by the user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModelRef {
    /// A model on the Hugging Face hub. Some are also available from pip, in their default revision.
    Hub {
        /// `organization/name`.
        id: ModelId,
        /// The branch, tag or commit.
        revision: Revision,
    },
    /// A sentence-transformers folder on this machine.
    Folder(PathBuf),
}

/// The ID of a model on the hub: `organization/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelId(String);

/// Text that is not a model reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is neither a folder on this machine nor a hub ID: {reason}; use `organization/name` (such as \
     `{DEFAULT_MODEL}`) or the path of a sentence-transformers folder"
)]
pub struct InvalidModelRef {
    text: String,
    reason: &'static str,
}

impl ModelId {
    /// The ID as written on the hub.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the slash.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The ID as a file name: `organization--name`.
    pub fn as_file_name(&self) -> String {
        self.0.replace('/', "--")
    }
}

impl ModelRef {
    /// This revision of the model. A folder has no revisions and is returned unchanged.
    #[must_use]
    pub fn at(self, revision: Revision) -> Self {
        match self {
            Self::Hub { id, .. } => Self::Hub { id, revision },
            folder @ Self::Folder(_) => folder,
        }
    }

    /// The model's name in the API and in bundles: the hub ID, or the name of the folder. The name of a snapshot in the
    /// hub's cache is the ID of its model.
    pub fn display_name(&self) -> String {
        match self {
            Self::Hub { id, .. } => id.as_str().to_owned(),
            Self::Folder(path) => folder_name(path),
        }
    }

    /// A unique file name. Folders with the same name are distinguished by a hash of their paths, and other revisions than
    /// the default one by their name and its hash. No ID contains `@`.
    pub fn as_file_name(&self) -> String {
        match self {
            Self::Hub { id, revision } if revision.is_default() => id.as_file_name(),
            Self::Hub { id, revision } => format!("{}@{}", id.as_file_name(), revision.as_file_name()),
            Self::Folder(path) => {
                let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let hash = embedd_common::checksum::Sha256Hex::of(absolute.as_os_str().as_encoded_bytes());
                format!("folder--{}--{}", folder_name(path).replace('/', "--"), &hash.as_str()[..12])
            }
        }
    }
}

fn folder_name(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let plain = || absolute.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
    snapshot_of(&absolute).unwrap_or_else(plain)
}

/// The hub ID if the path is that of a snapshot in the hub's cache: `models--organization--name/snapshots/COMMIT`. Old
/// models have no organization.
fn snapshot_of(path: &Path) -> Option<String> {
    let snapshots = path.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"))?;
    let repository = snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?;
    let id = repository.replacen("--", "/", 1);
    let is_valid = if id.contains('/') { id.parse::<ModelId>().is_ok() } else { check_part(&id).is_ok() };
    is_valid.then_some(id)
}

/// Checks an organization or a name.
fn check_part(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        return Err("one part is empty");
    }
    if part.starts_with(['.', '-']) || part.contains("..") {
        return Err("one part starts with `.` or `-`, or contains `..`");
    }
    if !part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Err("it may contain only letters, digits, `-`, `_`, `.` and one `/`");
    }
    Ok(())
}

impl FromStr for ModelRef {
    type Err = InvalidModelRef;

    /// Text that starts like a path, or names an existing folder, is a folder. Anything else must be a hub ID.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let like_a_path = text.starts_with(['/', '.', '~']) || text.contains('\\');
        if like_a_path || Path::new(text).is_dir() {
            return Ok(Self::Folder(PathBuf::from(text)));
        }
        Ok(Self::Hub { id: text.parse()?, revision: Revision::default() })
    }
}

impl FromStr for ModelId {
    type Err = InvalidModelRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| InvalidModelRef { text: text.to_owned(), reason };
        let (organization, name) = text.split_once('/').ok_or_else(|| invalid("it contains no `/`"))?;
        for part in [organization, name] {
            check_part(part).map_err(invalid)?;
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
            Self::Hub { id, revision } if revision.is_default() => id.fmt(f),
            Self::Hub { id, revision } => write!(f, "{id}@{revision}"),
            Self::Folder(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_and_paths_are_distinguished() {
        assert!(matches!("sentence-transformers/all-mpnet-base-v2".parse(), Ok(ModelRef::Hub { .. })));
        assert!(matches!("./all-mpnet-base-v2".parse(), Ok(ModelRef::Folder(_))));
        assert!(matches!("/models/mpnet".parse(), Ok(ModelRef::Folder(_))));
        assert!(matches!("src".parse(), Ok(ModelRef::Folder(_))), "a folder that exists");
    }

    #[test]
    fn text_that_could_leave_the_cache_folder_is_not_a_hub_id() {
        for text in ["", "mpnet", "a/../b", "a/b/c", "-a/b", "a/.b", "a/b c", "a/", "/"] {
            assert!(text.parse::<ModelId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn folders_with_the_same_name_have_different_file_names() {
        let a = ModelRef::Folder("/one/mpnet".into()).as_file_name();
        let b = ModelRef::Folder("/two/mpnet".into()).as_file_name();
        assert!(a.starts_with("folder--mpnet--") && b.starts_with("folder--mpnet--"));
        assert_ne!(a, b);
    }

    #[test]
    fn snapshots_in_the_cache_of_the_hub_have_the_name_of_their_model() {
        let name = |path: &str| ModelRef::Folder(path.into()).display_name();
        let commit = "563453de56997967de9625d6ed47b736000024e3";
        for (repository, expected) in [
            ("models--tiny--bert-mean", "tiny/bert-mean"),
            ("models--bert-base-uncased", "bert-base-uncased"),
            // Not in the hub's cache.
            ("models--", commit),
            ("models--tiny--..", commit),
            ("models--tiny--a b", commit),
            ("datasets--tiny--bert-mean", commit),
            ("tiny--bert-mean", commit),
        ] {
            assert_eq!(name(&format!("/cache/hub/{repository}/snapshots/{commit}")), expected, "{repository}");
            assert_eq!(name(&format!("/cache/hub/{repository}/snapshots/{commit}/")), expected, "{repository}");
        }
        assert_eq!(name("/cache/hub/models--tiny--bert-mean/snapshots"), "snapshots");
        assert_eq!(name("/cache/hub/models--tiny--bert-mean/snapshots/main/0_Transformer"), "0_Transformer");

        let bundle = |commit: &str| {
            ModelRef::Folder(format!("/hub/models--tiny--bert-mean/snapshots/{commit}").into()).as_file_name()
        };
        assert!(bundle(commit).starts_with("folder--tiny--bert-mean--"), "{}", bundle(commit));
        assert_ne!(bundle(commit), bundle("b207367332321f8e44f96e224ef15bc607f4dbf0"));
    }

    #[test]
    fn each_revision_of_a_model_has_its_own_file_name() {
        let model: ModelRef = "a/b".parse().expect("a hub id");
        let at = |revision: &str| model.clone().at(revision.parse().expect("a revision"));
        assert_eq!(at("main").as_file_name(), "a--b");
        assert!(at("refs/pr/1").as_file_name().starts_with("a--b@refs-pr-1-"), "{}", at("refs/pr/1").as_file_name());
        assert_ne!(at("refs/pr/1").as_file_name(), at("refs/pr-1").as_file_name());
        assert_eq!(at("v1").display_name(), "a/b", "the API's name does not depend on the revision");
        assert_eq!((at("main").to_string(), at("v1").to_string()), ("a/b".to_owned(), "a/b@v1".to_owned()));
        let folder = ModelRef::Folder("/models/b".into());
        assert_eq!(folder.clone().at("v1".parse().expect("a revision")), folder);
    }
}
