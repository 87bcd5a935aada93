//! Revisions of models on the hub.

use std::fmt;
use std::str::FromStr;

use embedd_common::checksum::Sha256Hex;

/// The default revision.
pub const MAIN: &str = "main";
/// The hub's names are those of git, which file systems limit to 255 bytes a part.
const MAX_BYTES: usize = 256;
/// Readable characters in the name of a folder. A commit has 40.
const MAX_READABLE: usize = 40;

/// A branch, a tag, a commit or `refs/pr/N` of a model on the hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revision(String);

/// Text that cannot be the name of a revision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be the name of a revision: {0}")]
pub struct InvalidRevision(&'static str);

impl Revision {
    /// The name as on the hub.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the default revision.
    pub fn is_default(&self) -> bool {
        self.0 == MAIN
    }

    /// A unique file name. The hash distinguishes names that differ in other characters or in case.
    pub(crate) fn as_file_name(&self) -> String {
        let readable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let readable = self.0.chars().take(MAX_READABLE).map(|c| if readable(c) { c } else { '-' });
        let hash = Sha256Hex::of(self.0.as_bytes());
        format!("{}-{}", readable.collect::<String>(), &hash.as_str()[..12])
    }
}

impl Default for Revision {
    fn default() -> Self {
        Self(MAIN.to_owned())
    }
}

impl FromStr for Revision {
    type Err = InvalidRevision;

    /// The rules are those of git for the names of references.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(InvalidRevision("it is empty"));
        }
        if text.len() > MAX_BYTES {
            return Err(InvalidRevision("it has more than 256 bytes"));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c)) {
            return Err(InvalidRevision("it contains a space, a control character, or one of ~^:?*[\\"));
        }
        if ["..", "@{", "//", "/.", "./"].iter().any(|part| text.contains(part)) {
            return Err(InvalidRevision("it contains `..`, `@{` or `//`, or a part begins or ends with `.`"));
        }
        if text.starts_with(['-', '/', '.']) || text.ends_with(['/', '.']) {
            return Err(InvalidRevision("it begins with `-`, `/` or `.`, or ends with `/` or `.`"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_tags_commits_and_pull_requests_are_revisions() {
        let commit = "b207367332321f8e44f96e224ef15bc607f4dbf0";
        let longest = "v".repeat(256);
        for text in ["main", "v1.0", "refs/pr/12", "feature/long-inputs", "été", commit, &longest] {
            assert_eq!(text.parse::<Revision>().expect("a revision").as_str(), text);
        }
        assert!(Revision::default().is_default());
    }

    #[test]
    fn names_that_git_does_not_allow_are_rejected() {
        let too_long = "v".repeat(257);
        let invalid = [
            "", " ", "a b", "a\u{a0}b", "a\nb", "a\0b", "\u{7f}", "..", "a/../b", "a..b", "/a", "a/", "a//b", "-a",
            ".a", "a.", "a/.b", "a./b", "a\\b", "a?b", "a@{1}", "a:b", &too_long,
        ];
        for text in invalid {
            assert!(text.parse::<Revision>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_revision_has_its_own_file_name() {
        let longest = format!("{}/{}", "a".repeat(127), "b".repeat(128));
        let names = ["refs/pr/1", "refs-pr-1", "refs/pr-1", "v1", "V1", &longest, &longest[1..]];
        let files = names.map(|name| name.parse::<Revision>().expect("a revision").as_file_name());
        for (index, file) in files.iter().enumerate() {
            assert!(file.len() <= 53 && file.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)), "{file}");
            let same = |other: &&String| other.eq_ignore_ascii_case(file);
            assert_eq!(files.iter().filter(same).count(), 1, "{} is not unique", names[index]);
        }
        assert!(files[0].starts_with("refs-pr-1-"));
    }
}
