//! The GPU build of ONNX Runtime, and NVIDIA's libraries for it.
//!
//! ONNX Runtime searches for its providers in its own folder, and cuDNN's libraries find each other by their run path
//! `$ORIGIN`, so all files are stored in one folder.

use super::entry::{Form, LINUX_X86_64, Member, Package, Runtime, RuntimeBuild};

/// The newest version with a GPU build, so not `RUNTIME_VERSION`.
const VERSION: &str = "1.31.1";

/// The only GPU build.
pub(super) const LINUX_X86_64_CUDA: Runtime = Runtime {
    build: RuntimeBuild::Cuda,
    platform: LINUX_X86_64,
    version: "1.31.1-cuda13",
    library: "libonnxruntime.so.1.31.1",
    dependencies: DEPENDENCIES,
    members: MEMBERS,
};

/// The loader identifies libraries by their sonames: once these are loaded, it does not search for them again when ONNX
/// Runtime's CUDA provider needs or opens them, so `LD_LIBRARY_PATH` need not contain their folder. Each library comes
/// after those that it needs. NVRTC opens `libnvrtc-builtins` without searching its own folder. Of cuDNN, only the
/// library that opens the others is listed.
const DEPENDENCIES: &[&str] = &[
    "libcudart.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcufft.so.12",
    "libcurand.so.10",
    "libnvrtc-builtins.so.13.0",
    "libnvrtc.so.13",
    "libcudnn.so.9",
];

const ONNX_RUNTIME: Package = wheel("onnxruntime-gpu", VERSION, "manylinux_2_28_x86_64", 255_560_985);

// NVIDIA's libraries are those of CUDA 13.0, which every driver for CUDA 13 supports (580 and later). Newer ones may
// need a newer driver.
const CUDA_RUNTIME: Package = wheel("nvidia-cuda-runtime", "13.0.96", "manylinux_2_17_x86_64", 2_243_632);
const CUBLAS: Package = wheel("nvidia-cublas", "13.1.0.3", "manylinux_2_27_x86_64", 423_133_236);
const CUFFT: Package = wheel("nvidia-cufft", "12.0.0.61", "manylinux_2_17_x86_64", 214_085_489);
const CURAND: Package = wheel("nvidia-curand", "10.4.0.35", "manylinux_2_27_x86_64", 59_544_258);
const NVRTC: Package = wheel("nvidia-cuda-nvrtc", "13.0.88", "manylinux_2_12_x86_64", 90_215_200);
const CUDNN: Package = wheel("nvidia-cudnn-cu13", "9.28.1.4", "manylinux_2_27_x86_64", 516_817_937);

const fn wheel(name: &'static str, version: &'static str, tag: &'static str, bytes: u64) -> Package {
    // The extracted files are pinned.
    Package { name, version, form: Form::PlatformWheel(tag), bytes, sha256: None }
}

/// Omits the headers, and the libraries that ONNX Runtime does not use.
const MEMBERS: &[Member] = &[
    Member {
        package: ONNX_RUNTIME,
        path: "onnxruntime/capi/libonnxruntime.so.1.31.1",
        bytes: 29_421_832,
        sha256: "5104254339ecadae808da771bd0b63b240f0dbd466514234905e54372435c303",
    },
    Member {
        package: ONNX_RUNTIME,
        path: "onnxruntime/capi/libonnxruntime_providers_shared.so",
        bytes: 14_632,
        sha256: "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d",
    },
    Member {
        package: ONNX_RUNTIME,
        path: "onnxruntime/capi/libonnxruntime_providers_cuda.so",
        bytes: 284_014_752,
        sha256: "d5290158115fa5569a3fe8f1f4037ee9b0e86658a96e52f852bbb7039aa88137",
    },
    Member {
        package: CUDA_RUNTIME,
        path: "nvidia/cu13/lib/libcudart.so.13",
        bytes: 704_288,
        sha256: "96c42e418cec19054186b9429c321603cc190bf26a18104e19408117a2a817b0",
    },
    Member {
        package: CUBLAS,
        path: "nvidia/cu13/lib/libcublasLt.so.13",
        bytes: 541_595_600,
        sha256: "656298c804f5adbb0df930545c17911b9584ab4e5101c0eeb65d1fe881d880f8",
    },
    Member {
        package: CUBLAS,
        path: "nvidia/cu13/lib/libcublas.so.13",
        bytes: 54_177_976,
        sha256: "e70f38efabe986acd5eb683497c62f0f1730a6176ee291d9d24c6e339d1fbf86",
    },
    Member {
        package: CUFFT,
        path: "nvidia/cu13/lib/libcufft.so.12",
        bytes: 286_542_352,
        sha256: "0933f68bb7e3bf90f86d70bc87cd2f69027f7757e89e5de5e19ec33a53fd8d3a",
    },
    Member {
        package: CURAND,
        path: "nvidia/cu13/lib/libcurand.so.10",
        bytes: 132_698_328,
        sha256: "b53732a66b302b11926e00f762e2c2ba67058347ff93cf4ae709de45e93e06da",
    },
    Member {
        package: NVRTC,
        path: "nvidia/cu13/lib/libnvrtc.so.13",
        bytes: 109_338_064,
        sha256: "a49e67e8e74590f1e98de55c39c6287efd3f59e3c3797464d7bbe0fe01349b11",
    },
    Member {
        package: NVRTC,
        path: "nvidia/cu13/lib/libnvrtc-builtins.so.13.0",
        bytes: 4_380_616,
        sha256: "91dcd944d01da9c0f08fff5d779db136a47f6d62bdb63bae900d2f481e92c3a2",
    },
    Member {
        package: CUDNN,
        path: "nvidia/cudnn/lib/libcudnn.so.9",
        bytes: 137_432,
        sha256: "f756cabeed9b481134769fdbc0c2ae022cf52ac39aab08be26ea990a56da2efc",
    },
    Member {
        package: CUDNN,
        path: "nvidia/cudnn/lib/libcudnn_adv.so.9",
        bytes: 92_392_360,
        sha256: "d69ed7d8adc4524ddb6cbf5e10211e35f580d14e40924692f0cdf1b78cf23ab2",
    },
    Member {
        package: CUDNN,
        path: "nvidia/cudnn/lib/libcudnn_cnn.so.9",
        bytes: 4_204_144,
        sha256: "2512f47e6e33000e12be5b2e59ac71eb8f5805a548561e7637e4413d1b7cdeb7",
    },
    Member {
        package: CUDNN,
        path: "nvidia/cudnn/lib/libcudnn_engines_precompiled.so.9",
        bytes: 260_072_128,
        sha256: "51bd1d25591ae2994120aac5c5be172e31b973e0fdeba43a50647949096ee40a",
    },
    Member {
        package: CUDNN,
        path: "nvidia/cudnn/lib/libcudnn_engines_runtime_compiled.so.9",
        bytes: 41_978_752,
        sha256: "738655d1b9441a752fde9b9911780635e60fe96113f2b06c1af6d70458ef5174",
    },
    Member {
        package: CUDNN,
        path: "nvidia/cudnn/lib/libcudnn_engines_tensor_ir.so.9",
        bytes: 249_581_552,
        sha256: "ff088c803f896fd9a92c0ab861026ff3b7ee5a4222713c3dd8221e1c843e74ec",
    },
    Member {
        package: CUDNN,
        path: "nvidia/cudnn/lib/libcudnn_ext.so.9",
        bytes: 10_492_592,
        sha256: "46c273e178b7733ffa5d56bd9719f378a20b94e07d2ccf23c4078e22bced0652",
    },
    Member {
        package: CUDNN,
        path: "nvidia/cudnn/lib/libcudnn_graph.so.9",
        bytes: 149_118_552,
        sha256: "06c28f04f028466cf33461a7d645210146015d425a0dae6c7dc7e60c07c4d973",
    },
    Member {
        package: CUDNN,
        path: "nvidia/cudnn/lib/libcudnn_heuristic.so.9",
        bytes: 96_473_968,
        sha256: "7738da4dd6fee9597680ff595863743b2bc4bd5b0ec3edb4e8e9d28a2b5e629d",
    },
    Member {
        package: CUDNN,
        path: "nvidia/cudnn/lib/libcudnn_ops.so.9",
        bytes: 35_661_648,
        sha256: "e849b0a7353eec5bb5c9f75d841d075d786e205d84f8fd07b092770554674e48",
    },
];
