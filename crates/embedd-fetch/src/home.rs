//! The cache folder, where fetched and converted files are stored.

use std::path::{Path, PathBuf};

use crate::model_ref::ModelRef;

/// The environment variable with the path of the cache folder.
pub const HOME_VARIABLE: &str = "EMBEDD_HOME";

/// The cache folder. It is created when it is first written to.
///
/// ```text
/// onnxruntime/1.32.0/      the ONNX Runtime library
/// models/<model>/          sentence-transformers folders as fetched
/// bundles/<model>/         converted models
/// partial/                 incomplete downloads, which a later fetch resumes
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

/// No cache folder is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this user has no cache folder; set {HOME_VARIABLE} to a folder for the files of embedd")]
pub struct NoHome;

impl Home {
    /// Uses the folder `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// Uses `configured`, or else `embedd` in the user's cache folder.
    ///
    /// # Errors
    /// [`NoHome`] if neither exists.
    pub fn find(configured: Option<PathBuf>) -> Result<Self, NoHome> {
        if let Some(root) = configured {
            return Ok(Self(root));
        }
        let user = directories::BaseDirs::new().ok_or(NoHome)?;
        Ok(Self(user.cache_dir().join("embedd")))
    }

    /// The path of the cache folder.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The folder of one version of the ONNX Runtime library.
    pub fn runtime_dir(&self, version: &str) -> PathBuf {
        self.0.join("onnxruntime").join(version)
    }

    /// The folder of a fetched model.
    pub fn model_dir(&self, model: &ModelRef) -> PathBuf {
        self.0.join("models").join(model.as_file_name())
    }

    /// The folder of the bundle converted from a model.
    pub fn bundle_dir(&self, model: &ModelRef) -> PathBuf {
        self.0.join("bundles").join(model.as_file_name())
    }

    /// The folder of incomplete downloads.
    pub fn partial_dir(&self) -> PathBuf {
        self.0.join("partial")
    }
}
