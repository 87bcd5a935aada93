//! Settings whose value is a word, or names files.

use std::path::PathBuf;

use super::parse::{self, Parsed};

/// The tokens that the admin service accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminTokenFile {
    /// One that the server generates and stores for its own user.
    Auto,
    /// Callers need no token.
    None,
    /// Those in a file.
    File(PathBuf),
}

/// The folders from which the admin service may load bundles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleRoots {
    /// The bundles of the cache folder.
    Auto,
    /// None besides the bundle that is served.
    None,
    /// These folders.
    Folders(Vec<PathBuf>),
}

impl AdminTokenFile {
    /// The file, if the setting names one.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Auto | Self::None => None,
        }
    }

    pub(super) fn parse(text: &str) -> Parsed<Self> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            _ => parse::path(text).map(Self::File).map_err(|expected| format!("{expected}, `auto` or `none`")),
        }
    }
}

impl BundleRoots {
    pub(super) fn parse(text: &str) -> Parsed<Self> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            _ => {
                let folders: Parsed<_> = text.split(':').map(parse::path).collect();
                let expected =
                    "absolute or relative paths separated by `:` (`~` is not expanded here), `auto` or `none`";
                folders.map(Self::Folders).map_err(|_| expected.to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_or_paths_are_parsed() {
        let file = |path: &str| AdminTokenFile::File(path.into());
        assert_eq!(AdminTokenFile::parse("AUTO"), Ok(AdminTokenFile::Auto));
        assert_eq!(AdminTokenFile::parse("none"), Ok(AdminTokenFile::None));
        assert_eq!(AdminTokenFile::parse("./none"), Ok(file("./none")));
        assert!(AdminTokenFile::parse("~/tokens").expect_err("not expanded").contains("`none`"));
        let folders = |paths: &[&str]| BundleRoots::Folders(paths.iter().map(PathBuf::from).collect());
        assert_eq!(BundleRoots::parse("auto"), Ok(BundleRoots::Auto));
        assert_eq!(BundleRoots::parse("None"), Ok(BundleRoots::None));
        assert_eq!(BundleRoots::parse("/models"), Ok(folders(&["/models"])));
        assert_eq!(BundleRoots::parse("/models:more/here"), Ok(folders(&["/models", "more/here"])));
        for wrong in ["", "/models:", "~/models"] {
            assert!(BundleRoots::parse(wrong).expect_err(wrong).contains("separated by `:`"), "{wrong}");
        }
    }
}
