//! ONNX Runtime: the library for the CPU, or the one for NVIDIA GPUs with NVIDIA's libraries.

use std::path::{Path, PathBuf};

use super::catalog::{Member, Pin, Platform, RUNTIME_VERSION, Runtime, RuntimeBuild};
use super::error::FetchError;
use super::work::Target;
use super::{Fetcher, from_pip};
use embedd_common::checksum::Sha256Hex;

/// The ONNX Runtime library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeLibrary {
    /// Its absolute path.
    pub path: PathBuf,
    /// The digest that the file must have when it is loaded. `None` for a library that the user configured.
    pub sha256: Option<Sha256Hex>,
    /// Absolute paths of the shared libraries that must be loaded, in this order, before ONNX Runtime uses a GPU. Empty
    /// for [`RuntimeBuild::Cpu`], and for a library that the user configured: the system's loader finds its dependencies.
    pub dependencies: Vec<PathBuf>,
}

impl Fetcher {
    /// The ONNX Runtime shared library: the configured one, regardless of `build`, or else the one that pip fetches.
    ///
    /// # Errors
    /// The configured library is not a readable file, or the library cannot be fetched.
    pub fn runtime(&self, build: RuntimeBuild) -> Result<RuntimeLibrary, FetchError> {
        if let Some(path) = &self.settings.runtime {
            return Ok(RuntimeLibrary { path: configured(path)?, sha256: None, dependencies: Vec::new() });
        }
        let runtime = self.known_runtime(build, Platform::current())?;
        let target = Target {
            what: format!("ONNX Runtime {}", runtime.version),
            key: format!("onnxruntime--{}", runtime.version),
            destination: self.home.runtime_dir(runtime.version),
            pins: runtime.members.iter().map(|member| Pin { file: member.file(), sha256: member.sha256 }).collect(),
        };
        self.ensure(&target, |work, staging| from_pip::files(self.pip(), runtime.members, work, staging))?;
        library(runtime, &target.destination)
    }

    /// The catalog's entry.
    pub(super) fn known_runtime(
        &self,
        build: RuntimeBuild,
        platform: Platform,
    ) -> Result<&'static Runtime, FetchError> {
        let Platform { os, arch } = platform;
        self.catalog.runtime(build, platform).ok_or_else(|| match build {
            RuntimeBuild::Cpu => {
                FetchError::UnsupportedPlatform { what: format!("ONNX Runtime {RUNTIME_VERSION}"), os, arch }
            }
            RuntimeBuild::Cuda => FetchError::NoGpuBuild { os, arch },
        })
    }
}

/// The fetched library in `folder`.
fn library(runtime: &Runtime, folder: &Path) -> Result<RuntimeLibrary, FetchError> {
    let folder = std::path::absolute(folder).map_err(|error| FetchError::io("find", folder, error))?;
    let pinned = runtime.members.iter().find(|member| member.file() == runtime.library).map(Member::record);
    Ok(RuntimeLibrary {
        path: folder.join(runtime.library),
        sha256: Some(pinned.expect("a test checks that the library is a member").sha256),
        dependencies: runtime.dependencies.iter().map(|file| folder.join(file)).collect(),
    })
}

/// The absolute path of a library that the user configured.
fn configured(path: &Path) -> Result<PathBuf, FetchError> {
    // Loaders search other folders for a relative path.
    let found = std::path::absolute(path).and_then(|absolute| Ok((absolute.metadata()?, absolute)));
    let reason = match found {
        Ok((found, absolute)) if found.is_file() => return Ok(absolute),
        Ok(_) => "is not a file".to_owned(),
        Err(error) => format!("cannot be opened ({error})"),
    };
    Err(FetchError::RuntimeOverride { path: path.to_owned(), reason })
}
