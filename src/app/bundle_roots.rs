//! The folders from which a caller of the admin service may load bundles.

use std::path::{Component, Path, PathBuf};

use crate::config::{BundleRoots as Setting, Settings};

/// Absolute paths of folders. Bundles may be these folders or anywhere below.
#[derive(Debug)]
pub(super) struct BundleRoots(Vec<PathBuf>);

impl BundleRoots {
    /// The roots that the settings name; `converted` holds the bundles of the cache folder. The folder that is served from the start is always one of them.
    pub(super) fn new(settings: &Settings, converted: PathBuf) -> Self {
        let folders = match &settings.bundle_roots {
            Setting::Auto => vec![converted],
            Setting::None => Vec::new(),
            Setting::Folders(folders) => folders.clone(),
        };
        let absolute = |folder: &PathBuf| std::path::absolute(folder).ok();
        Self(settings.bundle.iter().chain(&folders).filter_map(absolute).collect())
    }

    /// The path of a folder below a root, without links; `None` if it is elsewhere or does not exist.
    ///
    /// Callers must not learn which paths exist elsewhere, so a path that does not begin with a root is not looked at.
    pub(super) fn find(&self, folder: &Path) -> Option<PathBuf> {
        let folder = std::path::absolute(folder).ok()?;
        let goes_up = folder.components().any(|part| part == Component::ParentDir);
        let roots: Vec<PathBuf> = self.0.iter().filter_map(|root| root.canonicalize().ok()).collect();
        let begins_with_root = self.0.iter().chain(&roots).any(|root| folder.starts_with(root));
        if goes_up || !begins_with_root {
            return None;
        }
        let resolved = folder.canonicalize().ok()?;
        (roots.iter().any(|root| resolved.starts_with(root)) && resolved.is_dir()).then_some(resolved)
    }
}

#[cfg(test)]
mod tests;
