//! Text embeddings on CPUs: sentence-transformers models converted to ONNX, proven, and served over gRPC.
//!
//! `docs/ARCHITECTURE.md` says how the parts depend on each other. In reading order:

pub mod batch;
pub mod bundle;
pub mod checksum;
pub mod convert;
pub mod embed;
pub mod engine;
pub mod grpc;
pub mod home;
pub mod model_ref;
pub mod model_slot;
pub mod onnx;
pub mod progress;
pub mod proto;
pub mod request;
pub mod tokenize;
