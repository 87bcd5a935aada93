//! Text embeddings on CPUs: sentence-transformers models converted to ONNX, proven, and served over gRPC.
//!
//! `docs/ARCHITECTURE.md` says how the parts depend on each other. In reading order:

pub mod checksum;
pub mod fetch;
pub mod home;
pub mod model_ref;
pub mod progress;
