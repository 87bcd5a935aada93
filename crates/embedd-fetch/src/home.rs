//! The cache folder, where fetched and converted files are stored.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::model_ref::ModelRef;
use embedd_common::atomic::PathError;

/// The environment variable with the path of the cache folder.
pub const HOME_VARIABLE: &str = "EMBEDD_HOME";

/// The cache folder. It is created when it is first written to, for this user alone: others must not be able to replace
/// the models and the library that are loaded from it.
///
/// ```text
/// onnxruntime/1.32.0/         the ONNX Runtime library
/// onnxruntime/1.31.1-cuda13/  its GPU build, with NVIDIA's libraries
/// models/<model>/             sentence-transformers folders as fetched; `<model>@<revision>` unless the revision is main
/// bundles/<model>/            converted models, with the same names
/// gpu-bundles/<model>/        the same, converted for GPUs
/// partial/                    incomplete downloads, which a later fetch resumes
/// admin.token                 the token of the admin service, which the server generates
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

    /// A folder that neither exists nor can be created, for a server that needs none.
    pub fn nowhere() -> Self {
        Self(PathBuf::from("/dev/null/embedd"))
    }

    /// Creates the cache folder if it does not exist, readable and writable by this user alone.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn create(&self) -> Result<(), PathError> {
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        created.map_err(|source| PathError { action: "create", path: self.0.clone(), source })
    }

    /// A warning if other users may write to the cache folder. Its mode is not changed, because some users share the
    /// folder on purpose.
    pub fn warning(&self) -> Option<String> {
        let mode = fs::metadata(&self.0).ok()?.permissions().mode();
        let path = self.0.display();
        (mode & 0o022 != 0).then(|| {
            format!(
                "other users may write to the cache folder {path} (mode {:o}) and replace the models that are served; if \
                 that is not intended: chmod go-w {path}",
                mode & 0o7777
            )
        })
    }

    /// The path of the cache folder.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The folder of one version of the ONNX Runtime library. The version of a GPU build ends with that of CUDA.
    pub fn runtime_dir(&self, version: &str) -> PathBuf {
        self.0.join("onnxruntime").join(version)
    }

    /// The folder of a fetched model.
    pub fn model_dir(&self, model: &ModelRef) -> PathBuf {
        self.0.join("models").join(model.as_file_name())
    }

    /// The folder of converted models.
    pub fn bundles_dir(&self) -> PathBuf {
        self.0.join("bundles")
    }

    /// The folder of models that were converted for GPUs.
    pub fn gpu_bundles_dir(&self) -> PathBuf {
        self.0.join("gpu-bundles")
    }

    /// The folder of incomplete downloads.
    pub fn partial_dir(&self) -> PathBuf {
        self.0.join("partial")
    }
}
