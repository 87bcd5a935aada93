//! The cache folder: where fetched and converted files live.

use std::path::{Path, PathBuf};

use crate::model_ref::ModelRef;

/// The environment variable that names the cache folder.
pub const HOME_VARIABLE: &str = "EMBEDD_HOME";

/// The cache folder. Nothing is created before it is written to.
///
/// ```text
/// onnxruntime/1.32.0/      the ONNX Runtime library
/// models/<model>/          sentence-transformers folders as fetched
/// bundles/<model>/         converted models
/// tools/                   programs that the tests call
/// partial/                 downloads under way; a later fetch goes on with them
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

/// There is no place for a cache folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this user has no cache folder; set {HOME_VARIABLE} to the folder in which embedd may keep its files")]
pub struct NoHome;

impl Home {
    /// The folder at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// `configured`, else `embedd` in the user's cache folder.
    ///
    /// # Errors
    /// [`NoHome`] where neither is known.
    pub fn find(configured: Option<PathBuf>) -> Result<Self, NoHome> {
        if let Some(root) = configured {
            return Ok(Self(root));
        }
        let user = directories::BaseDirs::new().ok_or(NoHome)?;
        Ok(Self(user.cache_dir().join("embedd")))
    }

    /// The cache folder itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Where one version of the ONNX Runtime library lives.
    pub fn runtime_dir(&self, version: &str) -> PathBuf {
        self.0.join("onnxruntime").join(version)
    }

    /// Where the fetched source of a model lives.
    pub fn model_dir(&self, model: &ModelRef) -> PathBuf {
        self.0.join("models").join(model.as_file_name())
    }

    /// Where the bundle converted from a model lives.
    pub fn bundle_dir(&self, model: &ModelRef) -> PathBuf {
        self.0.join("bundles").join(model.as_file_name())
    }

    /// Where programs that the tests call live.
    pub fn tools_dir(&self) -> PathBuf {
        self.0.join("tools")
    }

    /// Where downloads are written until they are whole.
    pub fn partial_dir(&self) -> PathBuf {
        self.0.join("partial")
    }
}
